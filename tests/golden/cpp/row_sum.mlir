builtin.module {
  tile.kernel @row_sum(%x: !tile.ref<f32>, %y: !tile.ref<f32>) {kind = "loop", outputs = #tw.dims<[1]>, sizes = ["s0", "s1"]} {
    tile.for i0 in [s0] parallel {
      %sum = tile.for i1 in [s1] vector block [512] reduce ["sum"] : f32 {
        %a = tile.load %x["i0*s1 + i1"] : f32
        tile.yield %a
      }
      tile.store %y[i0], %sum
    }
  }
}
