// Move z, and show what the decoder, or a sheet of pictures, gives there.
const $ = (id) => document.getElementById(id);

// buttons with an example each; return a function for each that gives it an example
const thumbsOf = ({ data, nameOf, newCanvas, paintExample, start }, list, number) => Array.from({ length: number }, () => {
  const button = document.createElement("button");
  const canvas = button.appendChild(newCanvas());
  const text = button.appendChild(document.createElement("span"));
  button.type = "button";
  button.addEventListener("click", () => start(Number(button.dataset.example)));
  list.appendChild(document.createElement("li")).append(button);
  return (i) => {
    button.dataset.example = i;
    button.disabled = !data.bases.includes(i);
    button.setAttribute("aria-label", `test example ${nameOf(i)}`);
    text.textContent = data.labels ? data.labels[i] : i;
    paintExample(canvas, i);
  };
});

// sliders, one for each control; return a function that shows z on them
const slidersOf = ({ data, onSlider, kept, example, move }) => {
  const sliders = [...document.querySelectorAll("[data-control]")];
  for (const slider of sliders) {
    const i = Number(slider.dataset.control), { low, high, positions } = data.controls[i];
    slider.step = (high - low) / (positions - 1);
    slider.addEventListener("input", () => move(onSlider(i, Number(slider.value), kept().z, example())));
  }
  return (z) => sliders.forEach((slider) => {
    const { first, size, whole } = data.controls[slider.dataset.control];
    const value = size === 1 ? z[first] : z.subarray(first, first + size).indexOf(1);
    slider.value = value;
    slider.nextElementSibling.textContent = size > 1 ? value + 1 : whole ? value : value.toFixed(2);
  });
};

// the straight line between two examples; return a function that draws it
const lineOf = ({ data, between, shareStep, newCanvas, paint, paintExample }) => {
  const frames = Array.from({ length: 9 }, () => $("frames").appendChild(newCanvas()));
  const draw = () => {
    const [a, b] = [Number($("from").value), Number($("to").value)];
    paintExample($("from-example"), a);
    paintExample($("to-example"), b);
    paint($("middle"), between(a, b, Number($("share").value)));
    frames.forEach((canvas, k) => paint(canvas, between(a, b, k / 8)));
  };
  $("share").step = shareStep;
  $("share").value = 0.5;
  $("share").addEventListener("input", draw);
  [$("from").value, $("to").value] = [data.strip[0], data.strip.at(-1)];
  draw();
  return draw;
};

// the fields that choose an example, and their buttons
const fieldsOf = ({ data, count, start }, drawLine) => {
  const use = (field, value) => {
    field.value = Math.min(count - 1, Math.max(0, Math.round(Number(value)) || 0));
    if (field.id === "start") start(Number(field.value));
    else drawLine();
  };
  for (const id of ["start", "from", "to"]) $(id)?.addEventListener("change", () => use($(id), $(id).value));
  for (const button of document.querySelectorAll("[data-random]")) {
    button.addEventListener("click", () => use($(button.dataset.random), data.bases[Math.floor(Math.random() * data.bases.length)]));
  }
};

const copy = async (z) => {
  const text = JSON.stringify([...z]);
  try {
    await navigator.clipboard.writeText(text);
    $("copy").textContent = "Copied";
  } catch {
    prompt("z", text);
  }
};

(async () => {
  const data = JSON.parse($("data").textContent);
  const page = { data, ...placesOf(data), ...await painterOf(data) };
  let example = data.strip[0], kept = page.atExample(example), glimpsed = null;  // a glimpse ends with the pointer's visit

  let asked = 0;
  const draw = () => {
    asked = 0;
    const place = glimpsed ?? kept;
    $("copy").textContent = "Copy z";
    page.paint($("picture"), place);
    showOnSliders(place.z);
    page.byDistance(place.z).slice(0, neighbours.length).forEach((i, k) => neighbours[k](i));
    drawPlane?.cursor();
  };
  const change = (place, glimpse = null) => {
    [kept, glimpsed] = [place, glimpse];
    asked ||= requestAnimationFrame(draw);
  };
  const show = (i) => {
    example = i;
    $("start").value = i;
    page.paintExample($("example"), i);
    page.paint($("reconstruction"), page.atExample(i));
    $("name").textContent = page.nameOf(i);
    change(kept);
  };
  Object.assign(page, {
    nameOf: (i) => `${i}${data.labels ? `, label ${data.labels[i]}` : ""}`,
    example: () => example,
    kept: () => kept,
    place: () => glimpsed ?? kept,
    move: (place) => change(place),
    glimpse: (place) => change(kept, place),
    show,
    start: (i) => {
      kept = page.atExample(i);
      show(i);
    },
  });

  if ($("strip")) thumbsOf(page, $("strip"), data.strip.length).forEach((give, k) => give(data.strip[k]));
  const neighbours = thumbsOf(page, $("neighbours"), Math.min(10, page.count));
  const showOnSliders = slidersOf(page);
  const drawPlane = data.plane && planeOf(page);
  fieldsOf(page, $("frames") && lineOf(page));
  $("back").addEventListener("click", () => page.start(example));
  $("copy").addEventListener("click", () => copy(kept.z));
  followTheme(() => { drawPlane?.(); });
  page.start(example);
  document.documentElement.dataset.ready = "";
})();
