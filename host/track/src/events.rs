//! TensorBoard's event files: length-prefixed protocol-buffer records with masked CRC32C (TensorFlow's `tfrecord` framing).
//!
//! The two crates that write them are no longer kept (one needs `protoc`, the other protobuf 2), so the four messages in use are declared
//! here for `prost`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use prost::Message;

use crate::Row;

/// Every event file begins with it.
const FILE_VERSION: &str = "brain.Event:2";
/// How TensorBoard tells event files from others.
const PREFIX: &str = "events.out.tfevents.";
/// `SessionLog.START`: events at its step and later ones of earlier files were orphaned by a restart and do not count.
const START: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
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
    #[prost(float, tag = "2")]
    simple_value: f32,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
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
        writer.write(Event { wall_time: seconds(time_ms), step: 0, what: Some(What::FileVersion(FILE_VERSION.into())) })?;
        if let Some(step) = purge_from {
            let what = Some(What::SessionLog(SessionLog { status: START }));
            writer.write(Event { wall_time: seconds(time_ms), step: step as i64, what })?;
        }
        Ok(writer)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends the figures of a step; a reader sees all of them or none.
    pub fn add(&mut self, row: &Row) -> io::Result<()> {
        let value = row.values.iter().map(|(tag, value)| Scalar { tag: tag.clone(), simple_value: *value as f32 }).collect();
        self.write(Event { wall_time: seconds(row.time_ms), step: row.step as i64, what: Some(What::Summary(Summary { value })) })
    }

    fn write(&mut self, event: Event) -> io::Result<()> {
        let data = event.encode_to_vec();
        let length = (data.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(data.len() + 16);
        record.extend(length);
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(&data);
        record.extend(masked_crc(&data).to_le_bytes());
        self.file.write_all(&record)
    }
}

/// A CRC that is safe to store beside data which holds CRCs itself.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn seconds(time_ms: u64) -> f64 {
    time_ms as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ((!crc >> 15) | (!crc << 17)).wrapping_add(0xa282_ead8)
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
        first.add(&Row { step: 3, time_ms: 1_700_000_001_000, values: vec![("train/reward".into(), 0.5), ("b".into(), -2.0)] }).unwrap();
        let second = EventWriter::create(dir.path(), 1_700_000_000_900, Some(3)).unwrap();
        assert!(first.path() < second.path(), "read in the order in which they were begun");

        let events = read(first.path());
        assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".into())));
        assert_eq!((events[1].step, events[1].wall_time), (3, 1_700_000_001.0));
        let Some(What::Summary(summary)) = &events[1].what else { panic!("{events:?}") };
        let scalars: Vec<(&str, f32)> = summary.value.iter().map(|scalar| (scalar.tag.as_str(), scalar.simple_value)).collect();
        assert_eq!(scalars, [("train/reward", 0.5), ("b", -2.0)]);
        let events = read(second.path());
        assert_eq!((events[1].step, &events[1].what), (3, &Some(What::SessionLog(SessionLog { status: START }))));
    }
}
