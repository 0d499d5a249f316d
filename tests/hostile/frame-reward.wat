;; A reward for two episodes whose answer ATTACK makes: it defines `$attack`, which is given the address and the number of the episodes.
(module
  (memory (export "memory") 4)
  (global $free (mut i32) (i32.const 131072))
  ;; 0: ok(description) from "guest", 0 to 1, no components
  (data (i32.const 8) "\00\02\00\00\05\00\00\00")
  (data (i32.const 24) "\00\00\00\00\00\00\f0\3f")
  (data (i32.const 512) "guest")
  ;; ok of `count` verdicts at 1024, each with this total and no components
  (func $verdicts (param $count i32) (param $total f64) (result i32)
    (local $i i32) (local $at i32)
    (i32.store8 (i32.const 64) (i32.const 0))
    (i32.store (i32.const 68) (i32.const 1024))
    (i32.store (i32.const 72) (local.get $count))
    (local.set $at (i32.const 1024))
    (loop $again
      (f64.store (i32.add (local.get $at) (i32.const 8)) (local.get $total))
      (local.set $at (i32.add (local.get $at) (i32.const 24)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 1000))))
    (i32.const 64))

  ATTACK

  (func (export "mmhost:plugin/scoring@VERSION#describe") (result i32) i32.const 0)
  (func (export "mmhost:plugin/scoring@VERSION#score") (param i32 i32) (result i32) (call $attack (local.get 0) (local.get 1)))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (local $pointer i32)
    (local.set $pointer (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $pointer) (local.get $size)))
    (local.get $pointer)))
