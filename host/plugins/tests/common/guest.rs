//! Guests written as text: core modules that behave as badly as a test needs, made into components on the spot.
#![allow(dead_code)]

use mmhost_plugins::lock::{Lock, Pin, pinned};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A component of `world` from a core module in text form, built against version 0.1.0 of the contract as it stands or with another version number.
pub fn component(world: &str, version: &str, module: &str) -> Vec<u8> {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/deps/plugin-0.1.0");
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(wit).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap().replace("@0.1.0", &format!("@{version}"));
        std::fs::write(copy.path().join(path.file_name().unwrap()), text).unwrap();
    }
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(copy.path()).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = wat::parse_str(module.replace("VERSION", version)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// A folder of plugins with one plugin, `guest`, in it.
pub struct Folder {
    dir: TempDir,
}

impl Folder {
    /// Writes manifest, component and lock file.
    pub fn new(kind: &str, rest_of_manifest: &str, component: &[u8]) -> Self {
        Self::named("guest", kind, rest_of_manifest, component)
    }

    /// The same under another name.
    pub fn named(name: &str, kind: &str, rest_of_manifest: &str, component: &[u8]) -> Self {
        let head = format!("name = \"{name}\"\nversion = \"1.0.0\"\nkind = \"{kind}\"\ncontract = \"0.2.0\"\n");
        Self::write(name, &format!("{head}{rest_of_manifest}"), component)
    }

    /// The plugin `guest` with the whole manifest given.
    pub fn with_manifest(manifest: &str, component: &[u8]) -> Self {
        Self::write("guest", manifest, component)
    }

    fn write(name: &str, manifest: &str, component: &[u8]) -> Self {
        let folder = Folder { dir: tempfile::tempdir().unwrap() };
        let plugin = folder.path().join(name);
        std::fs::create_dir(&plugin).unwrap();
        std::fs::write(plugin.join("plugin.toml"), manifest).unwrap();
        std::fs::write(plugin.join(format!("{name}.wasm")), component).unwrap();
        let pin = Pin { component: pinned(component), ..Pin::default() };
        Lock { version: 1, plugins: [(name.to_string(), pin)].into() }.write(folder.path()).unwrap();
        folder
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn plugin(&self) -> PathBuf {
        self.dir.path().join("guest")
    }
}

/// A search tool whose argument's first letter chooses what it does; `o` answers `fine`.
pub const TOOL: &str = r#"
(module
  (import "mmhost:plugin/images@VERSION" "[method]image.duplicate" (func $duplicate (param i32) (result i32)))
  (import "mmhost:plugin/log@VERSION" "write" (func $log (param i32 i32 i32)))
  (memory (export "memory") 2)
  (table $table 1 funcref)
  (global $free (mut i32) (i32.const 65536))

  ;; 0: ok(description), 64: ok(list<part>), 96: parts, 512: texts
  (data (i32.const 4) "\00\02\00\00\05\00\00\00\00\02\00\00\05\00\00\00")       ;; name, description: "guest"
  (data (i32.const 20) "\00\00\00\00\10\02\00\00\06\00\00\00")                  ;; literal "<call>"
  (data (i32.const 32) "\01\00\00\00\00\02\00\00\05\00\00\00\00")               ;; one call, instruction, no image
  (data (i32.const 512) "guest")
  (data (i32.const 528) "<call>")
  (data (i32.const 544) "fine")
  (data (i32.const 560) "\ff\fe\fd")
  (data (i32.const 576) "image/png")

  (func (export "mmhost:plugin/tool@VERSION#describe") (result i32) i32.const 0)

  (func $answer (param $pointer i32) (param $length i32) (result i32)
    (i32.store8 (i32.const 64) (i32.const 0))
    (i32.store (i32.const 68) (i32.const 96))
    (i32.store (i32.const 72) (i32.const 1))
    (i32.store8 (i32.const 96) (i32.const 0))
    (i32.store (i32.const 100) (local.get $pointer))
    (i32.store (i32.const 104) (local.get $length))
    (i32.const 64))

  (func $recurse (param i32) (result i32)
    (i32.add (call $recurse (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))

  (func (export "mmhost:plugin/tool@VERSION#call")
    (param $argument i32) (param i32 i32 i32) (param $images i32) (param i32) (result i32)
    (local $what i32) (local $i i32)
    (local.set $what (i32.load8_u (local.get $argument)))
    ;; t: trap
    (if (i32.eq (local.get $what) (i32.const 0x74)) (then unreachable))
    ;; l: loop for ever
    (if (i32.eq (local.get $what) (i32.const 0x6c)) (then (loop $again (br $again))))
    ;; r: recurse without end
    (if (i32.eq (local.get $what) (i32.const 0x72)) (then (drop (call $recurse (i32.const 0)))))
    ;; m: 256 MiB of memory at once
    (if (i32.eq (local.get $what) (i32.const 0x6d)) (then (drop (memory.grow (i32.const 4096)))))
    ;; b: a table of a million elements
    (if (i32.eq (local.get $what) (i32.const 0x62))
      (then (drop (table.grow $table (ref.null func) (i32.const 1000000)))))
    ;; h: handles without end
    (if (i32.eq (local.get $what) (i32.const 0x68))
      (then (loop $again (drop (call $duplicate (i32.load (local.get $images)))) (br $again))))
    ;; f: log lines without end, for a while
    (if (i32.eq (local.get $what) (i32.const 0x66))
      (then (loop $again
        (call $log (i32.const 2) (i32.const 544) (i32.const 4))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 100000))))))
    ;; w: says why, then traps
    (if (i32.eq (local.get $what) (i32.const 0x77))
      (then (call $log (i32.const 3) (i32.const 544) (i32.const 4)) unreachable))
    ;; a: an answer a little longer than allowed, A: much longer
    (if (i32.eq (local.get $what) (i32.const 0x61)) (then (return (call $answer (i32.const 1024) (i32.const 5000)))))
    (if (i32.eq (local.get $what) (i32.const 0x41))
      (then
        (drop (memory.grow (i32.const 32)))
        (return (call $answer (i32.const 1024) (i32.const 2000000)))))
    ;; p: an answer out of bounds
    (if (i32.eq (local.get $what) (i32.const 0x70)) (then (return (call $answer (i32.const -16) (i32.const 1000)))))
    ;; u: text that is not UTF-8
    (if (i32.eq (local.get $what) (i32.const 0x75)) (then (return (call $answer (i32.const 560) (i32.const 3)))))
    ;; i: an image that is none
    (if (i32.eq (local.get $what) (i32.const 0x69))
      (then
        (drop (call $answer (i32.const 576) (i32.const 9)))
        (i32.store8 (i32.const 96) (i32.const 1))
        (i32.store (i32.const 108) (i32.const 544))
        (i32.store (i32.const 112) (i32.const 4))
        (return (i32.const 64))))
    (call $answer (i32.const 544) (i32.const 4)))

  ;; Never frees; takes new pages as they are needed.
  (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (local $pointer i32)
    (local.set $pointer (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $pointer) (local.get $size)))
    (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1))))))
    (local.get $pointer)))
"#;

/// A reward that returns `COUNT` verdicts, each with the total whose bits are `BITS`.
pub const REWARD: &str = r#"
(module
  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 65536))
  ;; 0: ok(description) from "guest", 0 to 1, no components
  (data (i32.const 8) "\00\02\00\00\05\00\00\00")
  (data (i32.const 24) "\00\00\00\00\00\00\f0\3f")
  (data (i32.const 512) "guest")
  (func (export "mmhost:plugin/scoring@VERSION#describe") (result i32) i32.const 0)
  (func (export "mmhost:plugin/scoring@VERSION#score") (param i32 i32) (result i32)
    (i32.store (i32.const 68) (i32.const 96))
    (i32.store (i32.const 72) (i32.const COUNT))
    (i64.store (i32.const 104) (i64.const BITS))
    (i64.store (i32.const 128) (i64.const BITS))
    (i64.store (i32.const 152) (i64.const BITS))
    (i32.const 64))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (local $pointer i32)
    (local.set $pointer (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $pointer) (local.get $size)))
    (local.get $pointer)))
"#;
