// Renders Markdown that somebody sent in: {markdown} → {html, outline, words, minutes}.
// Raw HTML in it is shown as text, so the result is safe to put into a page.

import MarkdownIt from 'markdown-it';

const WORDS_PER_MINUTE = 220;
const markdown = new MarkdownIt({ html: false, linkify: true, typographer: true });

export const handler = async event => {
  if (typeof event?.markdown !== 'string') throw new TypeError('the event needs a text `markdown`');

  const tokens = markdown.parse(event.markdown, {});
  const outline = tokens
    .map((token, index) => ({ token, text: tokens[index + 1]?.content }))
    .filter(({ token }) => token.type === 'heading_open')
    .map(({ token, text }) => ({ level: Number(token.tag.slice(1)), text }));
  const words = tokens
    .filter(token => token.type === 'inline')
    .reduce((sum, token) => sum + token.content.split(/\s+/).filter(Boolean).length, 0);

  return {
    html: markdown.renderer.render(tokens, markdown.options, {}),
    outline,
    words,
    minutes: Math.ceil(words / WORDS_PER_MINUTE),
  };
};
