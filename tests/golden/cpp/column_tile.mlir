builtin.module {
  tile.kernel @column_tile(%x: !tile.ref<f32>, %y: !tile.ref<f32>) {kind = "loop", outputs = #tw.dims<[1]>, sizes = ["s0"]} {
    tile.for i0 in [4] parallel {
      tile.for i1 in [32] vector {
        %sum = tile.for k0 in [s0] serial reduce ["sum"] : f32 {
          %a = tile.load %x["128*k0 + 32*i0 + i1"] : f32
          tile.yield %a
        }
        tile.store %y["32*i0 + i1"], %sum
      }
    }
  }
}
