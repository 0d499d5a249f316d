(component
  (import "wasi:sockets/tcp@0.2.0" (instance))
  (instance $i)
  (export "mmhost:plugin/tool@0.1.0" (instance $i)))
