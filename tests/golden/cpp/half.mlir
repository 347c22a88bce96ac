builtin.module {
  tile.kernel @half(%x: !tile.ref<bf16>, %y: !tile.ref<bf16>) {kind = "loop", outputs = #tw.dims<[1]>, sizes = ["s0"]} {
    tile.for i0 in [s0] parallel {
      %a = tile.load %x[i0] : f32
      %s = tile.map "sigmoid" %a : f32
      %p = tile.map "mul" %a, %s : f32
      tile.store %y[i0], %p
    }
  }
}
