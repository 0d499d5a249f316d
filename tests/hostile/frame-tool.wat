;; A search tool that is sound but for what ATTACK puts in. The attack defines `$attack`, which makes the answer of a call out of the
;; argument's address and length and the address of the image handles; `$start`, `$describing`, `$allocating` and `$after` run where
;; their names say. VERSION is the contract's.
(module
  (import "mmhost:plugin/images@VERSION" "[method]image.duplicate" (func $duplicate (param i32) (result i32)))
  (import "mmhost:plugin/images@VERSION" "[resource-drop]image" (func $drop_image (param i32)))
  (import "mmhost:plugin/log@VERSION" "write" (func $log (param i32 i32 i32)))
  (memory (export "memory") MEMORY)
  (global $free (mut i32) (i32.const 65536))

  ;; 0: ok(description), 64: ok(list<part>), 96: parts, 512: texts
  (data (i32.const 4) "\00\02\00\00\05\00\00\00\00\02\00\00\05\00\00\00")       ;; name, description: "guest"
  (data (i32.const 20) "\00\00\00\00\10\02\00\00\06\00\00\00")                  ;; literal "<call>"
  (data (i32.const 32) "\01\00\00\00\00\02\00\00\05\00\00\00\00")               ;; one call, instruction, no image
  (data (i32.const 512) "guest")
  (data (i32.const 528) "<call>")
  (data (i32.const 544) "fine")
  (data (i32.const 576) "image/png")

  ;; ok([text(pointer, length)])
  (func $answer (param $pointer i32) (param $length i32) (result i32)
    (i32.store8 (i32.const 64) (i32.const 0))
    (i32.store (i32.const 68) (i32.const 96))
    (i32.store (i32.const 72) (i32.const 1))
    (i32.store8 (i32.const 96) (i32.const 0))
    (i32.store (i32.const 100) (local.get $pointer))
    (i32.store (i32.const 104) (local.get $length))
    (i32.const 64))
  (func $fine (result i32) (call $answer (i32.const 544) (i32.const 4)))
  ;; ok([encoded(image/png, pointer, length)])
  (func $image (param $pointer i32) (param $length i32) (result i32)
    (drop (call $answer (i32.const 576) (i32.const 9)))
    (i32.store8 (i32.const 96) (i32.const 1))
    (i32.store (i32.const 108) (local.get $pointer))
    (i32.store (i32.const 112) (local.get $length))
    (i32.const 64))

  ATTACK

  (start $start)
  (func (export "mmhost:plugin/tool@VERSION#describe") (result i32) (call $describing) (i32.const 0))
  (func (export "mmhost:plugin/tool@VERSION#call")
    (param $argument i32) (param $length i32) (param i32 i32) (param $images i32) (param i32) (result i32)
    (call $attack (local.get $argument) (local.get $length) (local.get $images)))
  (func (export "cabi_post_mmhost:plugin/tool@VERSION#call") (param i32) (call $after))

  ;; Never frees; takes new pages as they are needed.
  (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (local $pointer i32)
    (call $allocating)
    (local.set $pointer (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $pointer) (local.get $size)))
    (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1))))))
    (local.get $pointer)))
