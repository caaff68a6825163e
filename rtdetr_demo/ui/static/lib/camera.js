import { Refusal } from "./detector.js";

/** Opening a camera, for whatever looks through one. */

/** @type {Record<string, string>} */
const PROBLEMS = {
  NotAllowedError:
    "Camera access was denied. Allow it in the browser's address bar, then try again.",
  NotFoundError: "No camera found. Connect one, then try again.",
  OverconstrainedError: "This camera is not available. Choose another one.",
  NotReadableError: "The camera is in use by another program. Close it there, then try again.",
};

/**
 * Show a camera in a <video>; gives "" or a sentence that says what is wrong.
 *
 * @param {HTMLVideoElement} video
 * @param {boolean | MediaTrackConstraints} which
 */
export async function openCamera(video, which = true) {
  if (!navigator.mediaDevices) return "The camera works only over https or on localhost.";
  closeCamera(video);
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: which });
    await video.play(); // until then it has no size, and nothing to take a picture of
    return "";
  } catch (error) {
    const name = error instanceof Error ? error.name : "";
    return PROBLEMS[name] ?? "The camera did not start. Try again.";
  }
}

/** @param {HTMLVideoElement} video */
export function closeCamera(video) {
  if (video.srcObject instanceof MediaStream)
    for (const track of video.srcObject.getTracks()) track.stop();
  video.srcObject = null;
}

/**
 * What the camera shows now, at its full size, as a JPEG file. Rejects with a `Refusal` where the
 * browser makes none.
 *
 * @param {HTMLVideoElement} video
 * @returns {Promise<File>}
 */
export async function takePicture(video) {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
  if (!blob) throw new Refusal("This browser could not take the picture. Try again.");
  return new File([/** @type {Blob} */ (blob)], "snapshot.jpg", { type: "image/jpeg" });
}
