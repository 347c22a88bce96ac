builtin.module {
  tile.kernel @layer_norm(%x: !tile.ref<f32>, %weight: !tile.ref<f32>, %y: !tile.ref<f32>) {kind = "loop", outputs = #tw.dims<[2]>, sizes = ["s0", "s1"]} {
    tile.for i0 in [s0] parallel {
      %row = tile.alloc [s1] : f32
      %small = tile.alloc [4] : f32
      %n = tile.expr [s1] : f32
      %sum = tile.for i1 in [s1] vector reduce ["sum"] : f32 {
        %a = tile.load %x["i0*s1 + i1"] : f32 loc("norm.py":10:0)
        tile.store %row[i1], %a
        tile.yield %a
      }
      %mean = tile.map "div" %sum, %n : f32 loc("norm.py":10:0)
      %squares = tile.for i1 in [s1] vector reduce ["sum"] : f32 {
        %a = tile.load %row[i1] : f32
        %d = tile.map "sub" %a, %mean : f32 loc("norm.py":11:0)
        %d2 = tile.map "mul" %d, %d : f32 loc("norm.py":11:0)
        tile.yield %d2
      }
      %var = tile.map "div" %squares, %n : f32 loc("norm.py":11:0)
      %eps = tile.constant 1.0e-05 : f32
      %safe = tile.map "add" %var, %eps : f32 loc("norm.py":12:0)
      %rstd = tile.map "rsqrt" %safe : f32 loc("norm.py":12:0)
      tile.store %small[0], %rstd
      tile.for i1 in [s1] vector {
        %a = tile.load %row[i1] : f32
        %r = tile.load %small[0] : f32
        %d = tile.map "sub" %a, %mean : f32 loc("norm.py":12:0)
        %u = tile.map "mul" %d, %r : f32 loc("norm.py":12:0)
        %w = tile.load %weight[i1] : f32 loc("norm.py":13:0)
        %out = tile.map "mul" %u, %w : f32 loc("norm.py":13:0)
        tile.store %y["i0*s1 + i1"], %out
      }
    }
  }
}
