builtin.module {
  tile.kernel @column_sum(%x: !tile.ref<f32>, %y: !tile.ref<f32>, %z: !tile.ref<f32>) {kind = "loop", outputs = #tw.dims<[1, 2]>, sizes = ["s0", "s1"]} {
    tile.for i1 in [s1] vector {
      %sum, %max = tile.for i0 in [s0] serial block [512] reduce ["sum", "max"] : f32, f32 {
        %a = tile.load %x["i0*s1 + i1"] : f32
        tile.yield %a, %a
      }
      %two = tile.constant 2.0 : f32
      %twice = tile.map "mul" %sum, %two : f32
      tile.store %y[i1], %twice
      tile.for i2 in [s0] serial {
        %a = tile.load %x["i2*s1 + i1"] : f32
        %d = tile.map "sub" %a, %twice : f32
        tile.store %z["i2*s1 + i1"], %d
      }
    }
  }
}
