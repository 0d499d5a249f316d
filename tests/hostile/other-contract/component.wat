(component (instance $i) (export "mmhost:plugin/tool@9.0.0" (instance $i)))
