// The visitor's camera, shown in a video element.
import { element } from "/page/ask.js";

/** Turns the camera on, or off where it is on; whether it is on then. */
export async function toggle(video) {
  if (video.srcObject) {
    for (const track of video.srcObject.getTracks()) track.stop();
    video.srcObject = null;
    return false;
  }
  if (!navigator.mediaDevices) {
    throw new Error("The camera cannot be used: browsers give one only to https and to this machine's own pages.");
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    throw new Error(`The camera cannot be used: ${error.message}`);
  }
  return true;
}

/** What it sees now, as a JPEG file; null before its first picture. */
export async function photo(video) {
  if (!video.videoWidth) return null;
  const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  const taken = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
  return new File([taken], "camera.jpg", { type: "image/jpeg" });
}
