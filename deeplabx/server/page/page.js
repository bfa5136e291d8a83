// The page of `deeplabx serve`: an image is sent to the server as it is, and comes back as two arrays, the id
// and the probability of each pixel. All that is shown is drawn from them here.

const MOST_DRAWN = 8e6; // pixels of the canvas; some phones draw no larger one
const element = (id) => document.getElementById(id);
const stage = element("stage");

let classes = []; // of the model: {id, name, colour}
let shown = null; // {file, width, height, ids, probabilities, present, hidden, only} of the image that is shown
let request = null; // the AbortController of the request in progress
let pointer = null; // {x, y} in pixels of the image

// --- the server -----------------------------------------------------------------------------------------------

async function checked(response) {
  if (response.ok) return response;
  let words = `the server answered ${response.status}`;
  try {
    const body = await response.json();
    words = body.hint ? `${body.error}\n${body.hint}` : body.error;
  } catch { /* not one of its own errors, as from a proxy */ }
  const again = response.headers.get("retry-after");
  throw new Error(again ? `${words}\nTry again in ${again} s.` : words);
}

async function post(path, file, signal) {
  return checked(await fetch(path, {method: "POST", body: file, signal}));
}

async function segmented(file, signal) {
  const response = await post("predict/map", file, signal);
  const header = (name) => Number(response.headers.get(name));
  const [width, height] = [header("x-width"), header("x-height")];
  const bytes = await response.arrayBuffer();
  const count = width * height;
  const wide = header("x-id-bytes") === 2;
  const ids = wide ? new Uint16Array(bytes, 0, count) : new Uint8Array(bytes, 0, count);
  const probabilities = header("x-probabilities") ? new Uint8Array(bytes, wide ? 2 * count : count, count) : null;
  return {width, height, ids, probabilities};
}

// --- one image ------------------------------------------------------------------------------------------------

async function show(file) {
  request?.abort();
  const own = request = new AbortController();
  fail("");
  const began = performance.now();
  const tell = () => {
    element("doing").textContent = `Segmenting ${file.name || "the image"} … ${((performance.now() - began) / 1000).toFixed(0)} s`;
  };
  tell();
  const timer = setInterval(tell, 1000);
  element("busy").hidden = false;
  try {
    const found = await segmented(file, own.signal);
    const drawable = await showImage(file, found, own.signal);
    if (own !== request) return;
    shown = {file, ...found, present: presence(found.ids), hidden: new Set(), only: null};
    note(drawable, (performance.now() - began) / 1000);
    listClasses();
    paint();
    point(null);
    document.body.classList.remove("empty");
    element("result").hidden = false;
    fit();
  } catch (error) {
    if (own === request && error.name !== "AbortError") fail(inWords(error));
  } finally {
    clearInterval(timer);
    if (own === request) {
      request = null;
      element("busy").hidden = true;
    }
  }
}

// Show the image itself, by the browser or, where it cannot read the format, as a PNG from the server.
async function showImage(file, {width, height}, signal) {
  const image = element("image");
  const load = async (blob) => {
    const next = new Image();
    next.src = URL.createObjectURL(blob);
    await next.decode();
    if (next.naturalWidth !== width || next.naturalHeight !== height) throw new Error("another size");
    if (signal.aborted) return;
    if (image.src) URL.revokeObjectURL(image.src);
    image.src = next.src;
    image.alt = file.name || "the image";
  };
  try {
    await load(file);
    return true;
  } catch {
    await load(await (await post("predict/overlay.png?opacity=0", file, signal)).blob());
    return false;
  }
}

function presence(ids) {
  const counts = new Map();
  const every = new Uint32Array(65536);
  for (const id of ids) every[id] += 1;
  every.forEach((count, id) => { if (count) counts.set(id, count); });
  return [...counts].sort((a, b) => b[1] - a[1]);
}

// --- what is drawn --------------------------------------------------------------------------------------------

const isBlack = ([red, green, blue]) => !red && !green && !blue; // such as background: drawn as nothing

function paint() {
  const {width, height, ids, hidden, only} = shown;
  const step = Math.max(1, Math.ceil(Math.sqrt(width * height / MOST_DRAWN)));
  const [across, down] = [Math.ceil(width / step), Math.ceil(height / step)];
  const colours = new Uint32Array(65536);
  for (const {id, colour} of classes) {
    if (only === null ? !hidden.has(id) && !isBlack(colour) : id === only) {
      colours[id] = (255 << 24 | colour[2] << 16 | colour[1] << 8 | colour[0]) >>> 0; // of little-endian machines
    }
  }
  const canvas = element("colours");
  [canvas.width, canvas.height] = [across, down];
  const pixels = new Uint32Array(across * down);
  for (let row = 0, at = 0; row < down; row++) {
    for (let column = 0, from = row * step * width; column < across; column++, from += step) {
      pixels[at++] = colours[ids[from]];
    }
  }
  canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), across, down), 0, 0);
}

// The largest size in which the image is seen whole; a small one is enlarged up to four times.
function fit() {
  if (!shown) return;
  const room = element("view").clientWidth;
  const tall = window.innerWidth > 760 ? Math.max(300, window.innerHeight - 250) : window.innerHeight * 0.6;
  const scale = Math.min(room / shown.width, tall / shown.height, 4);
  const [width, height] = [Math.max(1, shown.width * scale), Math.max(1, shown.height * scale)];
  for (const one of [stage, element("image")]) {
    one.style.width = `${width}px`;
    one.style.height = `${height}px`;
  }
  mark();
}

function listClasses() {
  const legend = element("legend");
  legend.replaceChildren(...shown.present.map(([id, count]) => {
    const {name, colour} = classes[id];
    const box = Object.assign(document.createElement("input"), {type: "checkbox", checked: true});
    box.addEventListener("change", () => {
      box.checked ? shown.hidden.delete(id) : shown.hidden.add(id);
      highlight(null);
    });
    const dot = span("dot");
    dot.style.backgroundColor = `rgb(${colour.join(" ")})`;
    const label = document.createElement("label");
    label.append(box, dot, span("name", name), span("share", percent(count / shown.ids.length)));
    const row = document.createElement("li");
    row.dataset.id = id;
    row.append(label);
    row.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") highlight(id); });
    row.addEventListener("pointerleave", () => highlight(null));
    return row;
  }));
}

function highlight(id) {
  if (shown.only === id && id !== null) return;
  shown.only = id;
  paint();
}

function span(kind, text = "") {
  return Object.assign(document.createElement("span"), {className: kind, textContent: text});
}

const percent = (share) => `${(100 * share).toFixed(share >= 0.0995 ? 0 : 1)} %`;

function showAll(visible) {
  shown.hidden = new Set(visible ? [] : shown.present.map(([id]) => id));
  for (const box of element("legend").querySelectorAll("input")) box.checked = visible;
  highlight(null);
}

function note(drawable, seconds) {
  const words = [`${shown.width} x ${shown.height} pixels, ${seconds.toFixed(1)} s`];
  if (!shown.probabilities) words.push("this model gives no probabilities");
  if (!drawable) words.push("the browser cannot show this format; the image is the server's copy");
  element("note").textContent = words.join("; ");
  element("note").hidden = false;
}

// --- the pointer ----------------------------------------------------------------------------------------------

function point(place) {
  pointer = place;
  const here = place ? shown.ids[place.y * shown.width + place.x] : null;
  for (const row of element("legend").children) row.classList.toggle("here", Number(row.dataset.id) === here);
  element("swatch").style.backgroundColor = place ? `rgb(${classes[here].colour.join(" ")})` : "transparent";
  element("pixel").textContent = place ? reading(place, here) : "Point at the image to read a class";
  mark();
}

function reading({x, y}, id) {
  const sure = shown.probabilities ? `, ${Math.round(shown.probabilities[y * shown.width + x] / 2.55)} %` : "";
  return `${classes[id].name}${sure}  (x ${x}, y ${y})`;
}

function mark() {
  element("cross").hidden = !pointer;
  if (!pointer) return;
  element("cross").style.left = `${100 * (pointer.x + 0.5) / shown.width}%`;
  element("cross").style.top = `${100 * (pointer.y + 0.5) / shown.height}%`;
}

function within(x, y) {
  const clamp = (value, size) => Math.min(size - 1, Math.max(0, Math.floor(value)));
  return {x: clamp(x, shown.width), y: clamp(y, shown.height)};
}

function follow(event) {
  if (!shown) return;
  const box = stage.getBoundingClientRect();
  point(within((event.clientX - box.left) / box.width * shown.width,
    (event.clientY - box.top) / box.height * shown.height));
}

const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

stage.addEventListener("pointermove", follow);
stage.addEventListener("pointerdown", follow);
stage.addEventListener("keydown", (event) => {
  if (!shown || !(event.key in ARROWS)) return;
  event.preventDefault();
  const [across, down] = ARROWS[event.key].map((one) => one * (event.shiftKey ? 10 : 1));
  const from = pointer ?? {x: shown.width >> 1, y: shown.height >> 1};
  point(pointer ? within(from.x + across, from.y + down) : from);
});

// --- choosing and saving --------------------------------------------------------------------------------------

function take(files) {
  const file = [...files][0];
  if (file) show(file);
}

async function save(path, ending, button) {
  button.disabled = true;
  fail("");
  try {
    const blob = await (await post(path, shown.file)).blob();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${(shown.file.name || "image").replace(/\.[^.]*$/, "")}${ending}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  } catch (error) {
    fail(inWords(error));
  } finally {
    button.disabled = false;
  }
}

const inWords = (error) => (error instanceof TypeError ? "The server cannot be reached." : error.message);

function fail(words) {
  element("error").textContent = words;
  element("error").hidden = !words;
}

element("file").addEventListener("change", (event) => {
  take(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
});
element("cancel").addEventListener("click", () => {
  request?.abort();
  element("busy").hidden = true;
});
element("opacity").addEventListener("input", (event) => {
  element("percent").textContent = `${event.target.value} %`;
  element("colours").style.opacity = event.target.value / 100;
});
element("all").addEventListener("click", () => showAll(true));
element("none").addEventListener("click", () => showAll(false));
element("save-ids").addEventListener("click", (event) => save("predict/ids.png", "", event.target));
element("save-overlay").addEventListener("click", (event) => {
  save(`predict/overlay.png?opacity=${element("opacity").value / 100}`, "_overlay", event.target);
});
document.addEventListener("paste", (event) => take(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  take(event.dataTransfer.files);
});
window.addEventListener("resize", fit);

// --- the beginning --------------------------------------------------------------------------------------------

async function begin() {
  document.body.classList.add("empty");
  element("colours").style.opacity = 0.5;
  const here = new URL(".", location.href).href;
  element("examples").textContent = [
    `curl --data-binary @photo.jpg ${here}predict`,
    `curl --data-binary @photo.jpg ${here}predict/ids.png -o ids.png`,
    `curl --data-binary @photo.jpg "${here}predict/overlay.png?opacity=0.5" -o overlay.png`,
  ].join("\n");
  try {
    const model = await (await checked(await fetch("classes"))).json();
    classes = model.classes;
    element("model").textContent = model.model;
  } catch (error) {
    fail(inWords(error));
  }
}

begin();
