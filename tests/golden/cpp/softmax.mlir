builtin.module {
  tile.kernel @softmax(%x: !tile.ref<f32>, %y: !tile.ref<f32>) {kind = "loop", outputs = #tw.dims<[1]>, sizes = ["s0", "s1"]} {
    tile.for i0 in [s0] parallel {
      %max = tile.for i1 in [s1] vector reduce ["max"] : f32 {
        %a = tile.load %x["i0*s1 + i1"] : f32 loc("model.py":3:0)
        tile.yield %a
      }
      %sum = tile.for i1 in [s1] vector reduce ["sum"] : f32 {
        %a = tile.load %x["i0*s1 + i1"] : f32 loc("model.py":3:0)
        %d = tile.map "sub" %a, %max : f32 loc("model.py":3:0)
        %e = tile.map "exp" %d : f32 loc("model.py":3:0)
        tile.yield %e
      }
      tile.for i1 in [s1] vector {
        %a = tile.load %x["i0*s1 + i1"] : f32 loc("model.py":3:0)
        %d = tile.map "sub" %a, %max : f32 loc("model.py":3:0)
        %e = tile.map "exp" %d : f32 loc("model.py":3:0)
        %q = tile.map "div" %e, %sum : f32 loc("model.py":3:0)
        tile.store %y["i0*s1 + i1"], %q
      }
    }
  }
}
