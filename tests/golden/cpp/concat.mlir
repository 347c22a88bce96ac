builtin.module {
  tile.kernel @concat(%left: !tile.ref<f32>, %right: !tile.ref<f32>, %y: !tile.ref<f32>) {kind = "loop", outputs = #tw.dims<[2]>, sizes = ["s0", "s1"]} {
    tile.for i0 in [s0] parallel {
      tile.for i1 in ["s1 + 5"] vector {
        %a = tile.load %left["i0*s1 + i1"] if ["s1 - 1 - i1"] else 0.0 : f32
        %b = tile.load %right["5*i0 + i1 - s1"] if ["i1 - s1"] else 0.0 : f32
        %first = tile.cond ["s1 - 1 - i1"]
        %c = tile.map "where" %first, %a, %b : f32
        tile.store %y["i0*(s1 + 5) + i1"], %c
      }
    }
  }
}
