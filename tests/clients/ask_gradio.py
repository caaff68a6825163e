"""gradio_client: one call, a call without a threshold, and forty at once."""

from gradio_client import Client, handle_file
from shared_form import PHOTO, URL, report

client = Client(URL, verbose=False)
image = handle_file(PHOTO)
jobs = [client.submit(image=image, api_name="/detect") for _ in range(40)]
answers = [job.result(timeout=100) for job in jobs]
assert len(answers) == 40
assert all(answer["detections"] == answers[0]["detections"] for answer in answers)
without = client.predict(image=image, threshold=None, api_name="/detect")
report(
    burst=[one["label"] for one in answers[-1]["detections"]],
    no_threshold=[one["label"] for one in without["detections"]],
)
