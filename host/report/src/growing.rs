//! Files of lines that grow while they are read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

/// How far a file has been read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Growing {
    /// Bytes of whole lines that were read.
    pub offset: u64,
    /// Whole lines that were read.
    pub lines: usize,
    /// A line without its end follows them.
    pub partial: bool,
    /// Length of the file at the last look.
    len: u64,
    /// The last whole line: where it begins, and its digest.
    last: Option<(u64, [u8; 32])>,
}

/// What a look at a growing file found.
#[derive(Debug)]
pub(crate) enum Look {
    /// Nothing new.
    Same,
    /// New whole lines, with their ends.
    More(Vec<u8>),
    /// The file does not go on from where it was read to: it was begun anew, or replaced.
    Anew,
}

impl Growing {
    /// Reads what was added to `path` since the last look. A file that is not there holds nothing.
    pub fn look(&mut self, path: &Path) -> std::io::Result<Look> {
        // Most files of a run have been written to their end: they are only asked for their length.
        let len = match std::fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(if self.len > 0 { Look::Anew } else { Look::Same }),
            Err(error) => return Err(error),
        };
        if len == self.len {
            return Ok(Look::Same);
        }
        let mut file = File::open(path)?;
        // The last line that was read is read again: if it is another one, so may be all before it.
        let from = self.last.map_or(0, |(start, _)| start);
        if len < self.offset {
            return Ok(Look::Anew);
        }
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::with_capacity((len - from) as usize);
        file.take(len - from).read_to_end(&mut bytes)?;
        let known = (self.offset - from) as usize;
        if let Some((_, digest)) = self.last
            && bytes.get(..known).is_none_or(|line| Sha256::digest(line)[..] != digest)
        {
            return Ok(Look::Anew);
        }
        self.len = len;
        bytes.drain(..known);
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.partial = whole < bytes.len();
        bytes.truncate(whole);
        if whole == 0 {
            return Ok(Look::More(bytes));
        }
        let start = bytes[..whole - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.last = Some((self.offset + start as u64, Sha256::digest(&bytes[start..]).into()));
        self.offset += whole as u64;
        self.lines += bytes.iter().filter(|byte| **byte == b'\n').count();
        Ok(Look::More(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_what_is_new_is_read_and_a_file_begun_anew_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        let mut file = Growing::default();
        let look = |file: &mut Growing| match file.look(&path).unwrap() {
            Look::Same => "same".to_owned(),
            Look::Anew => "anew".to_owned(),
            Look::More(bytes) => format!("more {}", String::from_utf8(bytes).unwrap()),
        };
        assert_eq!(look(&mut file), "same", "not there yet");
        for (content, expected, partial) in [
            ("a\nbb\ncc", "more a\nbb\n", true),
            ("a\nbb\ncc", "same", true),
            ("a\nbb\nccc", "more ", true),
            ("a\nbb\nccc\n", "more ccc\n", false),
            ("a\nbb\nccc\nd\n", "more d\n", false),
            ("a\nbb\n", "anew", false),
            ("a\nbb\nccc\nX\nY\n", "anew", false),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!((look(&mut file).as_str(), file.partial), (expected, partial), "{content:?}");
        }
        assert_eq!((file.lines, file.offset), (4, 11));
        fs::remove_file(&path).unwrap();
        assert_eq!(look(&mut file), "anew");
    }
}
