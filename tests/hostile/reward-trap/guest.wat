(func $attack (param $episodes i32) (param $count i32) (result i32)
  unreachable)
