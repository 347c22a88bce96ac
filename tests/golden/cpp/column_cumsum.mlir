builtin.module {
  tile.kernel @column_cumsum(%x: !tile.ref<f32>, %y: !tile.ref<f32>) {kind = "loop", outputs = #tw.dims<[1]>, sizes = ["s0", "s1"]} {
    tile.for i1 in [s1] vector {
      tile.for i0 in [s0] serial {
        %a = tile.load %x["i0*s1 + i1"] : f32
        %total = tile.scan "sum" %a : f32
        tile.store %y["i0*s1 + i1"], %total
      }
    }
  }
}
