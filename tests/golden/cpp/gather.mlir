builtin.module {
  tile.kernel @gather(%table: !tile.ref<f32>, %rows: !tile.ref<i64>, %y: !tile.ref<f32>) {kind = "loop", outputs = #tw.dims<[2]>, sizes = ["s0", "s1"]} {
    tile.for i0 in [s0] parallel {
      %row = tile.load %rows[i0] : i64
      tile.index j0 = %row in [100] wrap
      tile.for i1 in [s1] vector {
        %a = tile.load %table["j0*s1 + i1"] : f32
        tile.store %y["i0*s1 + i1"], %a
      }
    }
  }
}
