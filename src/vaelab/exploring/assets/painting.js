// Paint pictures on canvases: what the decoder gives at z, a tile of a sheet, or a stored image.
const loaded = async (sprite) => {
  if (!sprite) return null;
  const image = new Image();
  image.src = sprite.uri;
  await image.decode();
  return image;
};
const painterOf = async ({ shape, examples, sheets, program }) => {
  const [height, width, channels] = shape;
  const [stored, tiles] = await Promise.all([loaded(examples), loaded(sheets)]);
  const decode = program && decoder(program);
  const paintTile = (canvas, image, columns, tile) => canvas.getContext("2d").drawImage(
    image, (tile % columns) * width, Math.floor(tile / columns) * height, width, height, 0, 0, width, height);
  const paintLevels = (context, levels) => {
    const image = context.createImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      for (let k = 0; k < 3; k++) image.data[4 * i + k] = levels[channels * i + (channels === 3 ? k : 0)];
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  };
  return {
    newCanvas: () => Object.assign(document.createElement("canvas"), { width, height }),
    paint: (canvas, { z, tile }) => {
      if (decode) paintLevels(canvas.getContext("2d"), decode(z));
      else paintTile(canvas, tiles, sheets.columns, tile);
      canvas.dataset.z = JSON.stringify([...z]);
    },
    paintExample: (canvas, i) => paintTile(canvas, stored, examples.columns, i),
  };
};
