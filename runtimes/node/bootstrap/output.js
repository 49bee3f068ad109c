'use strict';

// process.stdout and process.stderr, written synchronously: Node's own streams for a pipe keep what does not fit into
// it at once, and lose that at process.exit() or when the process is frozen behind an answer.

const Writable = require('stream').Writable;

module.exports = (fd, write) => {
  const stream = new Writable({
    decodeStrings: true,
    write: (chunk, encoding, done) => {
      try {
        write(fd, chunk);
      } catch (error) {
        return done(error);
      }
      done();
    },
  });
  stream.fd = fd;
  stream._type = 'fs';
  stream._isStdio = true;
  // As with Node's own: neither can be closed.
  stream.destroy = stream.destroySoon = (error, done) => {
    if (typeof done === 'function') done(error);
    return stream;
  };
  return stream;
};
