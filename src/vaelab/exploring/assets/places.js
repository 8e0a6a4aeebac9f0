// Where z may be: anywhere if the decoder runs, else where there is a picture. A place is z, and the tile there, if any.
const placesOf = ({ z, latentDim, controls, plane, sheets, bases }) => {
  const codes = new Float32Array(bytes(z));
  const codeOf = (i) => Float64Array.from(codes.subarray(i * latentDim, (i + 1) * latentDim));
  const alongAxes = sheets && !plane;  // one dimension at a time
  const counts = controls.map((control) => control.positions);
  const offsets = counts.map((_, i) => 1 + counts.slice(0, i).reduce((a, b) => a + b, 0));
  const block = 1 + counts.reduce((a, b) => a + b, 0);
  const onGrid = (z) => {
    const step = (plane.high - plane.low) / (sheets.points - 1);
    const [x, y] = [...z].map((value) => Math.min(sheets.points - 1, Math.max(0, Math.round((value - plane.low) / step))));
    return { z: Float64Array.of(plane.low + x * step, plane.low + y * step), tile: (sheets.points - 1 - y) * sheets.points + x };
  };
  const at = (z) => (plane && sheets ? onGrid(z) : { z });
  const atExample = (i) => {
    if (!sheets) return { z: codeOf(i) };
    return { z: codeOf(i), tile: plane ? sheets.points ** 2 + i : bases.indexOf(i) * block };
  };
  const onSlider = (i, value, from, example) => {  // from z, or from the example if only one dimension may move
    const { first, size, low, high } = controls[i];
    const z = alongAxes ? codeOf(example) : from.slice();
    if (size === 1) z[first] = value;
    else z.fill(0, first, first + size)[first + value] = 1;
    const position = Math.round(((value - low) / (high - low)) * (counts[i] - 1));
    return alongAxes ? { z, tile: bases.indexOf(example) * block + offsets[i] + position } : at(z);
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
  const distance = (z, i) => {
    let sum = 0;
    for (let j = 0; j < latentDim; j++) sum += (codes[i * latentDim + j] - z[j]) ** 2;
    return sum;
  };
  const byDistance = (z) => {
    const distances = Array.from({ length: codes.length / latentDim }, (_, i) => distance(z, i));
    return [...distances.keys()].sort((a, b) => distances[a] - distances[b]);
  };
  return { count: codes.length / latentDim, codeOf, at, atExample, onSlider, between, byDistance, shareStep: alongAxes ? 1 / sheets.frames : 0.01 };
};
