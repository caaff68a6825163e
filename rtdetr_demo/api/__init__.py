"""The detector as a service: OpenAI's forms and a plain one, over the same models as the page."""
