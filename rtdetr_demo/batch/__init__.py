"""From many pictures to one table of rows, on one machine or on a Ray cluster.

Stands beside `video`: it may use `checkpoints`, `media`, `model` and the ground, and is used by
`cli`. Data flows `inputs` -> `pipeline` -> `rows` -> `journal` or `parts` -> `writers`; `runner`
does it in this process, `cluster` on Ray. Only `cluster` imports Ray, only Parquet pyarrow.
"""
