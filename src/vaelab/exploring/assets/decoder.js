// Run a program of `vaelab.exploring.program`: a list of steps, each a function of earlier values.
const erf = (x) => {  // to 1.5e-7: Abramowitz & Stegun (1964), formula 7.1.26
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
};
const ELEMENTWISE = { {% for name, (_, code) in operations.items() %}{{ name }}: (a, b, c) => {{ code | safe }}, {% endfor %} };
const REDUCTIONS = { {% for name, (_, code) in reductions.items() %}{{ name }}: (x) => {{ code | safe }}, {% endfor %} };
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
const half = (bits) => {  // a number of 16 bits: sign, 5 bits of exponent, 10 of fraction
  const exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
  return (bits >> 15 ? -1 : 1) * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
};
const decoder = (program) => {
  const arrays = [new Float32Array(bytes(program.single)), Float32Array.from(new Uint16Array(bytes(program.half)), half)];
  const read = [0, 0];
  const constants = program.sizes.map((size, i) => {
    const kind = Number(program.halves[i]);
    return arrays[kind].subarray(read[kind], read[kind] += size);
  });
  const linear = (x, matrix, bias) => {
    const y = Float64Array.from(bias), n = y.length;
    for (let i = 0, at = 0; i < x.length; i++) for (let j = 0; j < n; j++) y[j] += x[i] * matrix[at++];
    return y;
  };
  const take = (...inputs) => {
    const indices = inputs.pop(), from = inputs.length > 1 ? inputs.flatMap((x) => [...x]) : inputs[0];
    return Float64Array.from(indices, (index) => from[index]);
  };
  const reduce = (f, x, n) => Float64Array.from({ length: x.length / n }, (_, i) => f(x.subarray(i * n, i * n + n)));
  const each = (f, a, b = a, c = a) => {
    const y = new Float64Array(Math.max(a.length, b.length, c.length));
    for (let i = 0; i < y.length; i++) y[i] = f(a[i % a.length], b[i % b.length], c[i % c.length]);
    return y;
  };
  return (z) => {
    const values = [z, ...constants];
    for (const [name, inputs, length] of program.steps) {
      const of = inputs.map((i) => values[i]);
      if (name === "linear") values.push(linear(...of));
      else if (name === "take") values.push(take(...of));
      else if (name in REDUCTIONS) values.push(reduce(REDUCTIONS[name], of[0], length));
      else values.push(each(ELEMENTWISE[name], ...of));
    }
    return values[program.result];
  };
};
