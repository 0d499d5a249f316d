(component
  (import "evil:corp/shell@1.0.0" (instance))
  (instance $i)
  (export "mmhost:plugin/tool@0.1.0" (instance $i)))
