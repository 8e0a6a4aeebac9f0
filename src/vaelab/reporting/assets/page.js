// Sort and filter the table, pick a figure, draw the plots.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const root = document.documentElement;
  const table = document.getElementById("table");

  // sort within each group, because groups cannot be compared; rows without a value come last
  const columnOf = (row, column) => {
    let place = 0;
    for (const cell of row.cells) {
      place += cell.colSpan;
      if (place > column) return cell.dataset.value ?? "";
    }
    return "";
  };
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  };
  const headers = all("thead th", table);
  headers.forEach((header, column) => header.firstElementChild.addEventListener("click", () => {
    const order = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    headers.forEach((other) => other.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    for (const body of table.tBodies) {
      const rows = all("tr:not(.title)", body).map((row) => [columnOf(row, column), row]);
      rows.sort(([a], [b]) => (a === "" || b === "" ? (a === "") - (b === "") : sign * compare(a, b)));
      body.append(...rows.map(([, row]) => row));
    }
  }));

  // filter rows, pictures and errors alike
  const form = document.querySelector(".filters");
  const find = document.getElementById("find");
  const rows = all("tbody tr:not(.title)", table);
  const filtered = [...rows, ...all(".card"), ...all("details[data-state]")];
  const settings = new Map(filtered.map((each) => [each, JSON.parse(each.dataset.settings)]));
  const texts = new Map(filtered.map((each) => [each, `${each.textContent} ${each.dataset.settings}`.toLowerCase()]));
  const filter = () => {
    const states = new Set(all("input[name=state]:checked", form).map((box) => box.value));
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = all("select", form).filter((select) => select.value !== "");
    const kind = document.querySelector("input[name=kind]:checked")?.value;
    for (const each of filtered) {
      const fits = states.has(each.dataset.state)
        && words.every((word) => texts.get(each).includes(word))
        && wanted.every((select) => settings.get(each)[select.dataset.setting] === select.value);
      each.hidden = !fits || (each.dataset.kind !== undefined && each.dataset.kind !== kind);
    }
    for (const body of table.tBodies) {
      body.hidden = all("tr:not(.title)", body).every((row) => row.hidden);
    }
    const shown = rows.filter((row) => !row.hidden).length;
    document.getElementById("count").textContent = `${shown} of ${rows.length} rows`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  all("input[name=kind]").forEach((radio) => radio.addEventListener("change", filter));
  filter();

  // draw the plots: data come from data-plot, colours from the style sheet
  const symbols = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon"];
  const dashes = ["solid", "dash", "dot"];
  const themed = (plot, hidden) => {
    const look = (trace) => {
      if (trace.style === undefined) {
        return { mode: "lines", line: { width: 1, dash: "dot", color: colour("--soft") }, hoverinfo: "skip" };
      }
      const color = colour(`--s${trace.style % 8}`);
      const dash = dashes[Math.floor(trace.style / 8) % 3];
      const visible = !hidden.has(trace.style);
      if (trace.curve) {
        const hovertemplate = `<b>${trace.name}</b><br>%{y:.2f} after %{x:,} samples<extra></extra>`;
        return { visible, hovertemplate, mode: "lines", line: { width: 1.3, dash, color } };
      }
      const common = { visible, hovertemplate: "%{text}<extra></extra>" };
      if (trace.single) return { ...common, mode: "markers", marker: { size: 4, opacity: 0.55, color } };
      const bars = (array) => (array.some(Boolean) ? { array, type: "data", thickness: 1.2, width: 4, color } : null);
      return {
        ...common, mode: "lines+markers",
        line: { width: 1.8, dash, color },
        marker: { size: 8, symbol: symbols[trace.style % 8], color },
        error_x: bars(trace.x_spread), error_y: bars(trace.y_spread),
      };
    };
    const data = plot.data.map((trace) => ({ ...trace, ...look(trace) }));
    const axis = (own) => ({
      ...own, gridcolor: colour("--faint"), linecolor: colour("--line"), tickcolor: colour("--line"),
      showline: true, ticks: "outside", zeroline: false, automargin: true,
      title: { ...own?.title, font: { size: 12 }, standoff: 8 },
    });
    const layout = {
      ...plot.layout,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(root).getPropertyValue("--text"), size: 12, color: colour("--ink") },
      margin: { l: 8, r: 12, t: 10, b: 8 },
      xaxis: axis(plot.layout.xaxis), yaxis: axis(plot.layout.yaxis),
      showlegend: false,
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--soft"), font: { color: colour("--ink"), size: 12 }, align: "left" },
      hovermode: "closest",
    };
    return [data, layout];
  };
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const plots = all(".panel").flatMap((panel) => {
    const hidden = new Set();  // the styles of lines that the legend hides
    const own = all(".plot", panel).map((element) => [element, JSON.parse(element.dataset.plot), hidden]);
    all(".legend button", panel).forEach((button) => button.addEventListener("click", () => {
      const style = Number(button.dataset.style);
      if (!hidden.delete(style)) hidden.add(style);
      button.setAttribute("aria-pressed", String(!hidden.has(style)));
      draw(own);
    }));
    return own;
  });
  const draw = (some) => some.forEach(([element, plot, hidden]) => Plotly.react(element, ...themed(plot, hidden), config));
  draw(plots);
  window.addEventListener("beforeprint", () => plots.forEach(([element]) => Plotly.Plots.resize(element)));

  // enlarge a picture; Escape closes it
  const dialog = document.getElementById("enlarged");
  all(".zoom").forEach((button) => button.addEventListener("click", () => {
    const caption = document.createElement("p");
    caption.textContent = button.firstElementChild.alt;
    dialog.lastElementChild.replaceChildren(button.firstElementChild.cloneNode(), caption);
    dialog.showModal();
  }));
  dialog?.addEventListener("click", (event) => event.target.matches("dialog, button") && dialog.close());

  // copy a table; where the browser refuses, select it
  all(".copy").forEach((button) => button.addEventListener("click", async () => {
    const text = button.nextElementSibling;
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
    }
  }));

  followTheme(() => draw(plots));
})();
