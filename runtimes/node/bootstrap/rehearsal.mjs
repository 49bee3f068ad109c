// The ES module that preboot.js loads before there is a function's.

export const handler = () => null;
