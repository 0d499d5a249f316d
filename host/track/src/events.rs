//! TensorBoard's event files: length-prefixed protocol-buffer records with masked CRC32C (TensorFlow's `tfrecord` framing).
//!
//! The two crates that write them are no longer kept (one needs `protoc`, the other protobuf 2), so the few fields in use are encoded here
//! with `prost`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use prost::encoding::{WireType, double, encode_key, encode_varint, float, int32, int64, string};

use crate::Row;

/// Every event file begins with it.
const FILE_VERSION: &str = "brain.Event:2";
/// How TensorBoard tells event files from others.
const PREFIX: &str = "events.out.tfevents.";
/// `SessionLog.START`: events at its step and later ones of earlier files were orphaned by a restart and do not count.
const START: i32 = 1;

/// Numbers of the fields in TensorFlow's `event.proto` and `summary.proto`.
mod field {
    pub const WALL_TIME: u32 = 1;
    pub const STEP: u32 = 2;
    pub const FILE_VERSION: u32 = 3;
    pub const SUMMARY: u32 = 5;
    pub const SESSION_LOG: u32 = 7;
    /// Of a summary.
    pub const VALUE: u32 = 1;
    /// Of a value.
    pub const TAG: u32 = 1;
    pub const SIMPLE_VALUE: u32 = 2;
    /// Of a session log.
    pub const STATUS: u32 = 1;
}

/// An event with what `fill` adds to time and step.
fn event(time_ms: u64, step: usize, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut event = Vec::new();
    double::encode(field::WALL_TIME, &(time_ms as f64 / 1e3), &mut event);
    int64::encode(field::STEP, &(step as i64), &mut event);
    fill(&mut event);
    event
}

/// A message within a message.
fn message(tag: u32, content: &[u8], into: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, into);
    encode_varint(content.len() as u64, into);
    into.extend_from_slice(content);
}

/// Appends scalars to an event file of its own.
pub(crate) struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Begins the next event file of `dir`. After a resume, `purge_from` is the first step that is done again.
    pub fn create(dir: &Path, time_ms: u64, purge_from: Option<usize>) -> io::Result<Self> {
        // Readers take the files of a directory in the order of their names: time first, then a number for those of the same second.
        let number = fs::read_dir(dir)?.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)).count();
        let path = dir.join(format!("{PREFIX}{:010}.mmhost.{number:04}", time_ms / 1000));
        let file = OpenOptions::new().create_new(true).append(true).open(&path)?;
        let mut writer = Self { path, file };
        writer.write(&event(time_ms, 0, |event| string::encode(field::FILE_VERSION, &FILE_VERSION.to_owned(), event)))?;
        if let Some(step) = purge_from {
            let mut log = Vec::new();
            int32::encode(field::STATUS, &START, &mut log);
            writer.write(&event(time_ms, step, |event| message(field::SESSION_LOG, &log, event)))?;
        }
        Ok(writer)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends the figures of a step; a reader sees all of them or none.
    pub fn add(&mut self, row: &Row) -> io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in &row.values {
            let mut scalar = Vec::new();
            string::encode(field::TAG, tag, &mut scalar);
            // One of several kinds of value, so a 0 is written too: without it the value would have no kind.
            float::encode(field::SIMPLE_VALUE, &(*value as f32), &mut scalar);
            message(field::VALUE, &scalar, &mut summary);
        }
        self.write(&event(row.time_ms, row.step, |event| message(field::SUMMARY, &summary, event)))
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(data.len() + 16);
        record.extend(length);
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(data);
        record.extend(masked_crc(data).to_le_bytes());
        self.file.write_all(&record)
    }
}

/// A CRC that is safe to store beside data which holds CRCs itself.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    struct Event {
        #[prost(double, tag = "1")]
        wall_time: f64,
        #[prost(int64, tag = "2")]
        step: i64,
        #[prost(string, optional, tag = "3")]
        file_version: Option<String>,
        #[prost(message, optional, tag = "5")]
        summary: Option<Summary>,
        #[prost(message, optional, tag = "7")]
        session_log: Option<SessionLog>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Summary {
        #[prost(message, repeated, tag = "1")]
        value: Vec<Scalar>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Scalar {
        #[prost(string, tag = "1")]
        tag: String,
        #[prost(float, optional, tag = "2")]
        simple_value: Option<f32>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct SessionLog {
        #[prost(int32, tag = "1")]
        status: i32,
    }

    /// The events of a file; every length and checksum is checked, by a CRC of the test's own.
    fn read(path: &Path) -> Vec<Event> {
        let crc = |data: &[u8]| {
            let mut crc = !0u32;
            for byte in data {
                crc ^= u32::from(*byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
                }
            }
            (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
        };
        let bytes = fs::read(path).unwrap();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (mut at, mut events) = (0, Vec::new());
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            assert_eq!(word(at + 8), crc(&bytes[at..at + 8]), "length at {at}");
            let data = &bytes[at + 12..at + 12 + length];
            assert_eq!(word(at + 12 + length), crc(data), "data at {at}");
            events.push(Event::decode(data).unwrap());
            at += 16 + length;
        }
        events
    }

    #[test]
    fn files_begin_with_their_version_and_a_resumed_one_purges() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = EventWriter::create(dir.path(), 1_700_000_000_500, None).unwrap();
        first.add(&Row { step: 3, time_ms: 1_700_000_001_000, values: vec![("train/reward".into(), 0.5), ("b".into(), 0.0)] }).unwrap();
        let second = EventWriter::create(dir.path(), 1_700_000_000_900, Some(3)).unwrap();
        assert!(first.path() < second.path(), "read in the order in which they were begun");

        let events = read(first.path());
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!((events[1].step, events[1].wall_time), (3, 1_700_000_001.0));
        let summary = events[1].summary.as_ref().unwrap();
        let scalars: Vec<(&str, Option<f32>)> = summary.value.iter().map(|scalar| (scalar.tag.as_str(), scalar.simple_value)).collect();
        assert_eq!(scalars, [("train/reward", Some(0.5)), ("b", Some(0.0))]);
        let events = read(second.path());
        assert_eq!((events[1].step, &events[1].session_log), (3, &Some(SessionLog { status: START })));
    }
}
