// The latent plane: the manifold behind, contours of the prior, the examples as points, and z.
const CELLS = 20;  // of the manifold, along each axis

// the labels, which of them are hidden, and their colours
const paletteOf = (labels) => {
  const kinds = labels ? [...new Set(labels)].sort((a, b) => a - b) : [];
  const hidden = new Set();
  const tone = (label) => {
    const k = kinds.indexOf(label);
    if (k < 0) return "--accent";
    return kinds.length <= 10 ? `--s${k}` : `hsl(${(360 * k) / kinds.length} 65% 50%)`;
  };
  return { kinds, hidden, tone, visible: (i) => !labels || !hidden.has(labels[i]) };
};

// buttons that hide and show labels
const legendOf = ({ kinds, hidden, tone }, redraw) => {
  for (const kind of kinds) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: kind });
    const dot = document.createElement("span");
    dot.className = "dot";
    dot.style.background = tone(kind).startsWith("--") ? `var(${tone(kind)})` : tone(kind);
    button.prepend(dot);
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      if (!hidden.delete(kind)) hidden.add(kind);
      button.setAttribute("aria-pressed", String(!hidden.has(kind)));
      redraw();
    });
    $("legend").appendChild(document.createElement("li")).append(button);
  }
};

// the decoded manifold, which grows row by row, so that the page answers meanwhile
const manifoldOf = ({ data, at, paint, newCanvas }, redraw, done) => {
  const { low, high } = data.plane, step = (high - low) / CELLS;
  const one = newCanvas(), { width, height } = one;
  const whole = Object.assign(document.createElement("canvas"), { width: CELLS * width, height: CELLS * height });
  const grow = (row) => {
    for (let column = 0; column < CELLS; column++) {
      paint(one, at(Float64Array.of(low + (column + 0.5) * step, high - (row + 0.5) * step)));
      whole.getContext("2d").drawImage(one, column * width, row * height);
    }
    if (row + 1 < CELLS) setTimeout(grow, 0, row + 1);
    else done();
    redraw();
  };
  setTimeout(grow, 0, 0);
  return whole;
};

// what moves z: pointing glimpses, a press or a drag keeps, a click and Enter choose the nearest visible example as well
const movesOf = (page, box, visible) => {
  const { low, high } = page.data.plane, span = high - low;
  const inside = (z) => page.at(Float64Array.from(z, (value) => Math.min(high, Math.max(low, value))));
  const under = ({ clientX, clientY }) => {
    const area = box.firstElementChild.getBoundingClientRect();
    return inside([low + ((clientX - area.left) / area.width) * span, high - ((clientY - area.top) / area.height) * span]);
  };
  const showNearest = () => {
    const nearest = page.byDistance(page.kept().z).find(visible);
    if (nearest !== undefined) page.show(nearest);
  };
  let pressed = null;
  box.addEventListener("pointerdown", (event) => {
    if (event.buttons !== 1) return;  // another button opens a menu
    pressed = event;
    page.move(under(event));
  });
  box.addEventListener("pointermove", (event) => (event.buttons === 1 ? page.move : page.glimpse)(under(event)));
  box.addEventListener("pointerleave", () => page.glimpse(null));
  box.addEventListener("click", (event) => {
    const dragged = pressed && Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) > 4;
    if (!dragged) showNearest();
  });
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
  box.addEventListener("keydown", (event) => {
    const step = (event.shiftKey ? 0.1 : 0.025) * span, [x, y] = page.kept().z;
    if (event.key in arrows) page.move(inside([x + step * arrows[event.key][0], y + step * arrows[event.key][1]]));
    else if (event.key === "Enter" || event.key === " ") showNearest();
    else return;
    event.preventDefault();
  });
};

const planeOf = (page) => {
  const { plane, labels } = page.data;
  const box = $("plane"), canvas = box.firstElementChild, context = canvas.getContext("2d");
  const colour = coloursIn(box);  // it is dark in any theme, so that points stand out from the manifold
  const still = document.createElement("canvas"), pen = still.getContext("2d");
  const palette = paletteOf(labels), codes = Array.from({ length: page.count }, (_, i) => page.codeOf(i));
  const toScreen = ([x, y]) => [x - plane.low, plane.high - y].map((value) => (value / (plane.high - plane.low)) * canvas.width);

  const drawManifold = () => {
    pen.fillStyle = colour("--card");
    pen.fillRect(0, 0, still.width, still.height);
    if (!$("manifold").checked) return;
    pen.globalAlpha = $("points").checked ? 0.35 : 1;
    pen.drawImage(manifold, 0, 0, still.width, still.height);
    pen.globalAlpha = 1;
  };
  const drawContours = () => {
    pen.lineWidth = devicePixelRatio;
    pen.strokeStyle = colour("--ink");
    for (const line of Object.values(plane.contours).flat()) {
      pen.beginPath();
      line.forEach((point) => pen.lineTo(...toScreen(point)));
      pen.stroke();
    }
  };
  const drawPoints = () => {
    if (!$("points").checked) return;
    const colours = new Map([...palette.kinds, null].map((kind) => [kind, colour(palette.tone(kind))]));
    codes.forEach((z, i) => {
      if (!palette.visible(i)) return;
      pen.fillStyle = colours.get(labels ? labels[i] : null);
      pen.beginPath();
      pen.arc(...toScreen(z), still.width / 240, 0, 7);
      pen.fill();
    });
  };
  const drawTicks = () => {
    pen.fillStyle = colour("--ink");
    pen.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    for (let tick = Math.ceil(plane.low); tick <= plane.high; tick++) {
      const [x, y] = toScreen([tick, tick]);
      pen.fillText(tick, x + 2, still.height - 4);
      if (tick > plane.low + 0.5) pen.fillText(tick, 3, y - 2);
    }
  };
  const ring = (z, radius, name, width) => {
    context.beginPath();
    context.arc(...toScreen(z), radius * devicePixelRatio, 0, 7);
    context.lineWidth = width * devicePixelRatio;
    context.strokeStyle = colour(name);
    context.stroke();
  };
  const cursor = () => {
    context.drawImage(still, 0, 0);
    ring(codes[page.example()], 5, "--ink", 1.5);
    ring(page.place().z, 9, "--card", 6);
    ring(page.place().z, 9, "--ink", 2.5);
  };
  const draw = () => {
    const side = Math.round(box.clientWidth * devicePixelRatio);
    if (!side) return;  // not laid out
    for (const each of [canvas, still]) Object.assign(each, { width: side, height: side });
    for (const layer of [drawManifold, drawContours, drawPoints, drawTicks, cursor]) layer();
  };

  const manifold = manifoldOf(page, draw, () => { box.dataset.drawn = ""; });
  movesOf(page, box, palette.visible);
  legendOf(palette, draw);
  for (const id of ["points", "manifold"]) $(id).addEventListener("change", draw);
  new ResizeObserver(draw).observe(box);
  return Object.assign(draw, { cursor });
};
