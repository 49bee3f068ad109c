'use strict';

// Loading a handler that is an ES module. Needs import(), so Node 12.17 or newer.

const fs = require('fs');
const Module = require('module');
const url = require('url');

/** The folders of NODE_PATH that hold packages, as the module that would stand beside them: `…/node_modules` → `…/`. */
function layerParents() {
  return process.env.NODE_PATH.split(':')
    .filter(folder => folder.endsWith('/node_modules') && fs.existsSync(folder))
    .map(folder => url.pathToFileURL(folder.slice(0, -'node_modules'.length) + 'noop.js').href);
}

/** Lets `import` find packages in layers. Node's own lookup of ES modules has no NODE_PATH; AWS's has, from nodejs18.x. */
function addLayers(parents) {
  if (Module.registerHooks) {
    Module.registerHooks({
      resolve(specifier, context, nextResolve) {
        try {
          return nextResolve(specifier, context);
        } catch (error) {
          if (error.code !== 'ERR_MODULE_NOT_FOUND' || /^(\.|\/|#|[a-z]+:)/.test(specifier)) throw error;
          for (const parentURL of parents) {
            try {
              return nextResolve(specifier, { ...context, parentURL });
            } catch (missing) {
              if (missing.code !== 'ERR_MODULE_NOT_FOUND') throw missing;
            }
          }
          throw error;
        }
      },
    });
  } else if (Module.register) {
    // Hooks of this kind run in a thread of their own, which takes its time to start: only for functions with a layer.
    Module.register('./esm_layers.mjs', { parentURL: url.pathToFileURL(__filename).href, data: parents });
  }
}

module.exports = file => {
  const parents = layerParents();
  if (parents.length > 0) addLayers(parents);
  const loading = import(url.pathToFileURL(file).href);
  loading.isImport = true;
  return loading;
};

/** Starts Node's loader of ES modules ahead of the first one. */
module.exports.warm = specifier => import(specifier);
