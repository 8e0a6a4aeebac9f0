// Move z, and show what the decoder, or a sheet of pictures, gives there.
(async () => {
  const $ = (id) => document.getElementById(id);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const data = JSON.parse($("data").textContent);
  const { controls, labels, latentDim, plane, sheets, bases } = data;
  const [height, width, channels] = data.shape;
  const codes = new Float32Array(bytes(data.z));
  const count = codes.length / latentDim;
  const codeOf = (i) => Float64Array.from(codes.subarray(i * latentDim, (i + 1) * latentDim));
  const nameOf = (i) => `${i}${labels ? `, label ${labels[i]}` : ""}`;
  const loaded = async (sprite) => {
    if (!sprite) return null;
    const image = new Image();
    image.src = sprite.uri;
    await image.decode();
    return image;
  };
  const alongAxes = sheets && !plane;  // one dimension at a time
  const [examples, tiles] = await Promise.all([loaded(data.examples), loaded(sheets)]);
  const decode = data.program && decoder(data.program);

  // pictures
  const paintTile = (context, image, columns, tile) => context.drawImage(
    image, (tile % columns) * width, Math.floor(tile / columns) * height, width, height, 0, 0, width, height);
  const paintLevels = (context, levels) => {
    const image = context.createImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      for (let k = 0; k < 3; k++) image.data[4 * i + k] = levels[channels * i + (channels === 3 ? k : 0)];
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  };
  const paint = (canvas, { z, tile }) => {
    const context = canvas.getContext("2d");
    if (decode) paintLevels(context, decode(z));
    else paintTile(context, tiles, sheets.columns, tile);
    canvas.dataset.z = JSON.stringify([...z]);
  };
  const paintExample = (canvas, i) => paintTile(canvas.getContext("2d"), examples, data.examples.columns, i);

  // where z may be: anywhere if the decoder runs, else where there is a picture
  const counts = controls.map((control) => control.positions);
  const offsets = counts.map((_, i) => 1 + counts.slice(0, i).reduce((a, b) => a + b, 0));
  const block = 1 + counts.reduce((a, b) => a + b, 0);
  const nearest = (z) => {
    const step = (plane.high - plane.low) / (sheets.points - 1);
    const [x, y] = [...z].map((value) => Math.min(sheets.points - 1, Math.max(0, Math.round((value - plane.low) / step))));
    return { z: Float64Array.of(plane.low + x * step, plane.low + y * step), tile: (sheets.points - 1 - y) * sheets.points + x };
  };
  const at = (z) => (plane && sheets ? nearest(z) : { z });
  const atExample = (i) => {
    if (!sheets) return { z: codeOf(i) };
    return { z: codeOf(i), tile: plane ? sheets.points ** 2 + i : bases.indexOf(i) * block };
  };
  const between = (a, b, share) => {
    const [z, end] = [codeOf(a), codeOf(b)];
    if (alongAxes) share = Math.round(share * sheets.frames) / sheets.frames;
    if (share === 0 || a === b) return atExample(a);
    if (share === 1) return atExample(b);
    const here = z.map((value, j) => value + share * (end[j] - value));
    if (!alongAxes) return at(here);
    const [first, second] = [bases.indexOf(a), bases.indexOf(b)];
    const [low, high] = [Math.min(first, second), Math.max(first, second)];
    const pair = low * bases.length - (low * (low + 1)) / 2 + (high - low - 1);
    const frame = Math.round((first < second ? share : 1 - share) * sheets.frames);
    return { z: here, tile: bases.length * block + pair * (sheets.frames - 1) + frame - 1 };
  };

  // the state: an example, and z
  let example = data.strip[0];
  let here = atExample(example);
  const valueOf = ({ first, size, whole }) => {
    if (size === 1) return here.z[first];
    return here.z.subarray(first, first + size).indexOf(1);
  };
  const shown = (control) => {
    if (control.size > 1) return `${valueOf(control) + 1}`;
    return control.whole ? `${valueOf(control)}` : valueOf(control).toFixed(2);
  };
  const sliders = all("[data-control]");
  sliders.forEach((slider) => {
    const i = Number(slider.dataset.control), control = controls[i];
    slider.step = (control.high - control.low) / (counts[i] - 1);
    slider.addEventListener("input", () => move(i, Number(slider.value)));
  });
  const move = (i, value) => {
    const { first, size, low, high } = controls[i];
    const z = alongAxes ? codeOf(example) : here.z.slice();
    if (size === 1) z[first] = value;
    else z.fill(0, first, first + size)[first + value] = 1;
    const position = Math.round(((value - low) / (high - low)) * (counts[i] - 1));
    here = alongAxes ? { z, tile: bases.indexOf(example) * block + offsets[i] + position } : at(z);
    update();
  };
  const choose = (i) => {
    if (!bases.includes(i)) return;
    example = i;
    here = atExample(i);
    $("start").value = i;
    paintExample($("example"), i);
    paint($("reconstruction"), here);
    $("name").textContent = nameOf(i);
    drawPoints?.();
    update();
  };

  // buttons with an example each
  const thumbs = (list, number) => Array.from({ length: number }, () => {
    const button = document.createElement("button");
    const canvas = button.appendChild(Object.assign(document.createElement("canvas"), { width, height }));
    const text = button.appendChild(document.createElement("span"));
    button.type = "button";
    button.addEventListener("click", () => choose(Number(button.dataset.example)));
    list.appendChild(document.createElement("li")).append(button);
    return (i) => {
      button.dataset.example = i;
      button.disabled = !bases.includes(i);
      button.setAttribute("aria-label", `test example ${nameOf(i)}`);
      text.textContent = labels ? labels[i] : i;
      paintExample(canvas, i);
    };
  });
  if ($("strip")) thumbs($("strip"), data.strip.length).forEach((show, i) => show(data.strip[i]));
  const neighbours = thumbs($("neighbours"), Math.min(10, count));
  const distance = (i) => {
    let sum = 0;
    for (let j = 0; j < latentDim; j++) sum += (codes[i * latentDim + j] - here.z[j]) ** 2;
    return sum;
  };
  const byDistance = () => {
    const distances = Array.from({ length: count }, (_, i) => distance(i));
    return [...distances.keys()].sort((a, b) => distances[a] - distances[b]);
  };

  // the plane
  const drawPoints = plane && planeOf({ plane, labels, codes, count, at, paint, width, height,
    z: () => here.z, example: () => example,
    move: (z) => { here = at(z); update(); },
    choose: (z) => { here = at(z); choose(byDistance()[0]); } });

  let asked = 0;
  const update = () => { asked ||= requestAnimationFrame(draw); };
  const draw = () => {
    asked = 0;
    $("copy").textContent = "Copy z";
    paint($("picture"), here);
    sliders.forEach((slider) => {
      const control = controls[slider.dataset.control];
      slider.value = valueOf(control);
      slider.nextElementSibling.textContent = shown(control);
    });
    byDistance().slice(0, neighbours.length).forEach((i, k) => neighbours[k](i));
    drawPoints?.cursor();
  };

  // from one example to another
  const frames = $("frames") && Array.from({ length: 9 }, () => $("frames").appendChild(Object.assign(document.createElement("canvas"), { width, height })));
  const drawBetween = () => {
    const [a, b] = [Number($("from").value), Number($("to").value)];
    paintExample($("from-example"), a);
    paintExample($("to-example"), b);
    paint($("middle"), between(a, b, Number($("share").value)));
    frames.forEach((canvas, k) => paint(canvas, between(a, b, k / 8)));
  };

  // what the reader types
  const given = (field) => Math.min(count - 1, Math.max(0, Math.round(Number(field.value)) || 0));
  const random = () => bases[Math.floor(Math.random() * bases.length)];
  const used = (field) => {
    field.value = given(field);
    if (field.id === "start") choose(given(field));
    else drawBetween();
  };
  for (const id of ["start", "from", "to"]) $(id)?.addEventListener("change", () => used($(id)));
  all("[data-random]").forEach((button) => button.addEventListener("click", () => {
    $(button.dataset.random).value = random();
    used($(button.dataset.random));
  }));
  $("back").addEventListener("click", () => choose(example));
  $("copy").addEventListener("click", async () => {
    const text = JSON.stringify([...here.z]);
    try {
      await navigator.clipboard.writeText(text);
      $("copy").textContent = "Copied";
    } catch {
      prompt("z", text);
    }
  });
  followTheme(() => { drawPoints?.(); });
  if (frames) {
    $("share").step = alongAxes ? 1 / sheets.frames : 0.01;
    $("share").value = 0.5;
    $("share").addEventListener("input", drawBetween);
    [$("from").value, $("to").value] = [data.strip[0], data.strip.at(-1)];
    drawBetween();
  }
  choose(example);
  document.documentElement.dataset.ready = "";
})();
