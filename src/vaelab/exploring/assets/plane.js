// The latent plane: the manifold behind, contours of the prior, the examples as points, and z.
const planeOf = (page) => {
  const { plane, labels, codes, count } = page;
  const box = document.getElementById("plane"), canvas = box.firstElementChild, context = canvas.getContext("2d");
  const colour = coloursIn(box);  // it is dark in any theme, so that points stand out from the manifold
  const still = document.createElement("canvas"), behind = document.createElement("canvas");
  const span = plane.high - plane.low;
  const kinds = labels ? [...new Set(labels)].sort((a, b) => a - b) : [];
  const hidden = new Set();
  const tone = (label) => {
    const k = kinds.indexOf(label);
    if (k < 0) return "--accent";
    return kinds.length <= 10 ? `--s${k}` : `hsl(${(360 * k) / kinds.length} 65% 50%)`;
  };
  const toScreen = ([x, y]) => [((x - plane.low) / span) * canvas.width, ((plane.high - y) / span) * canvas.height];
  const checked = (id) => document.getElementById(id).checked;

  const cells = 20;  // of the manifold, along each axis
  Object.assign(behind, { width: cells * page.width, height: cells * page.height });
  const one = Object.assign(document.createElement("canvas"), { width: page.width, height: page.height });
  const drawBehind = (row = 0) => {  // row by row, so that the page answers meanwhile
    for (let column = 0; column < cells; column++) {
      const z = Float64Array.of(plane.low + ((column + 0.5) / cells) * span, plane.high - ((row + 0.5) / cells) * span);
      page.paint(one, page.at(z));
      behind.getContext("2d").drawImage(one, column * page.width, row * page.height);
    }
    if (row + 1 < cells) setTimeout(drawBehind, 0, row + 1);
    else box.dataset.drawn = "";
    draw();
  };

  const draw = () => {
    const side = Math.round(box.clientWidth * devicePixelRatio), dot = side / 240;
    if (!side) return;  // not laid out
    Object.assign(canvas, { width: side, height: side });
    Object.assign(still, { width: side, height: side });
    const pen = still.getContext("2d");
    pen.fillStyle = colour("--card");
    pen.fillRect(0, 0, side, side);
    if (checked("manifold")) {
      pen.globalAlpha = checked("points") ? 0.35 : 1;
      pen.drawImage(behind, 0, 0, side, side);
      pen.globalAlpha = 1;
    }
    pen.lineWidth = devicePixelRatio;
    pen.strokeStyle = colour("--ink");
    for (const line of plane.contours.flat()) {
      pen.beginPath();
      line.forEach((point) => pen.lineTo(...toScreen(point)));
      pen.stroke();
    }
    if (checked("points")) {
      const colours = new Map(kinds.map((kind) => [kind, colour(tone(kind))]));
      for (let i = 0; i < count; i++) {
        if (labels && hidden.has(labels[i])) continue;
        pen.fillStyle = labels ? colours.get(labels[i]) : colour("--accent");
        pen.beginPath();
        pen.arc(...toScreen(codes.subarray(2 * i, 2 * i + 2)), dot, 0, 7);
        pen.fill();
      }
    }
    pen.fillStyle = colour("--ink");
    pen.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    for (let tick = Math.ceil(plane.low); tick <= plane.high; tick++) {
      const [x, y] = toScreen([tick, tick]);
      pen.fillText(tick, x + 2, side - 4);
      if (tick > plane.low + 0.5) pen.fillText(tick, 3, y - 2);
    }
    cursor();
  };
  const ring = ([x, y], radius, name, width) => {
    context.beginPath();
    context.arc(x, y, radius * devicePixelRatio, 0, 7);
    context.lineWidth = width * devicePixelRatio;
    context.strokeStyle = colour(name);
    context.stroke();
  };
  const cursor = () => {
    context.drawImage(still, 0, 0);
    const i = page.example();
    ring(toScreen(codes.subarray(2 * i, 2 * i + 2)), 5, "--ink", 1.5);
    ring(toScreen(page.z()), 9, "--card", 6);
    ring(toScreen(page.z()), 9, "--ink", 2.5);
  };

  const inside = (z) => Float64Array.from(z, (value) => Math.min(plane.high, Math.max(plane.low, value)));
  const under = (event) => {
    const area = canvas.getBoundingClientRect();
    return inside([plane.low + ((event.clientX - area.left) / area.width) * span, plane.high - ((event.clientY - area.top) / area.height) * span]);
  };
  box.addEventListener("pointermove", (event) => page.move(under(event)));
  box.addEventListener("pointerdown", (event) => page.move(under(event)));
  box.addEventListener("click", (event) => page.choose(under(event)));
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
  box.addEventListener("keydown", (event) => {
    const step = (event.shiftKey ? 0.1 : 0.025) * span, [x, y] = page.z();
    if (event.key in arrows) page.move(inside([x + step * arrows[event.key][0], y + step * arrows[event.key][1]]));
    else if (event.key === "Enter" || event.key === " ") page.choose(page.z());
    else return;
    event.preventDefault();
  });

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
      draw();
    });
    document.getElementById("legend").appendChild(document.createElement("li")).append(button);
  }
  for (const id of ["points", "manifold"]) document.getElementById(id).addEventListener("change", draw);
  new ResizeObserver(draw).observe(box);
  setTimeout(drawBehind);
  return Object.assign(draw, { cursor });
};
