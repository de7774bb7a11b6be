// The frames and masks of the clip, each requested once.

import { ask } from "./server.js";

const MOST_MASKS = 100;  // They are stored uncompressed.
const pictures = new Map(), masks = new Map();

function once(map, position, load) {
  if (!map.has(position)) {
    const loading = load();
    map.set(position, loading);
    loading.catch(() => map.delete(position));
  }
  return map.get(position);
}

export const frames = {
  // Returns an ImageBitmap.
  async image(position) {
    const blob = await once(pictures, position, async () => (await ask(`frame/${position}`)).blob());
    return createImageBitmap(blob);
  },

  // Returns the ids of all pixels, row by row. This is the cached array: changes to it persist.
  async mask(position) {
    if (masks.size >= MOST_MASKS && !masks.has(position)) masks.delete(masks.keys().next().value);
    return once(masks, position, async () => new Uint8Array(await (await ask(`mask/${position}`)).arrayBuffer()));
  },

  async load(positions) {
    await Promise.all(positions.flatMap((each) => [this.image(each), this.mask(each)]));
  },

  keepMask(position, mask) { masks.set(position, Promise.resolve(mask)); },
  forgetMask(position) { masks.delete(position); },
  forgetMasks() { masks.clear(); },
  forget() { pictures.clear(); masks.clear(); },
};
