// The hooks of esm.js for versions of Node that run them in a thread of their own (18.19, 20.6).

let parents = [];

export function initialize(data) {
  parents = data;
}

export async function resolve(specifier, context, nextResolve) {
  try {
    return await nextResolve(specifier, context);
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND' || /^(\.|\/|#|[a-z]+:)/.test(specifier)) throw error;
    for (const parentURL of parents) {
      try {
        return await nextResolve(specifier, { ...context, parentURL });
      } catch (missing) {
        if (missing.code !== 'ERR_MODULE_NOT_FOUND') throw missing;
      }
    }
    throw error;
  }
}
