// Text of unknown origin, made safe to look at: what would not be seen, or would turn the text around, is written out.

// Controls (but newline and tab), soft hyphen, zero-width and bidirectional marks, line separators, the byte order mark, tags.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffc\ufffe\uffff]|[\u{e0000}-\u{e0fff}]|[\ud800-\udfff]/gu;

/** The text with unseen characters written as ⟨U+202E⟩. */
export function visible(text: string): string {
  return text.replace(UNSEEN, (character) => `⟨U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}⟩`);
}

/** At most `most` characters, with a mark where some are left out. */
export function shortened(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most)}…`;
}
