builtin.module {
  tile.kernel @map_chain(%x: !tile.ref<f32>, %bias: !tile.ref<f32>, %y: !tile.ref<f32>) {kind = "loop", outputs = #tw.dims<[2]>, sizes = ["s0", "s1"]} {
    tile.for i0 in [s0] parallel {
      tile.for i1 in [s1] vector {
        %a = tile.load %x["i0*s1 + i1"] : f32 loc("model.py":7:0)
        %b = tile.load %bias[i1] : f32 loc("model.py":7:0)
        %sum = tile.map "add" %a, %b : f32 loc("model.py":7:0)
        %half = tile.constant 0.5 : f32
        %one = tile.constant 1.0 : f32
        %root = tile.constant 0.70710678118654752 : f32
        %scaled = tile.map "mul" %sum, %root : f32 loc("model.py":8:0)
        %erf = tile.map "erf" %scaled : f32 loc("model.py":8:0)
        %shifted = tile.map "add" %erf, %one : f32 loc("model.py":8:0)
        %halved = tile.map "mul" %sum, %half : f32 loc("model.py":8:0)
        %gelu = tile.map "mul" %halved, %shifted : f32 loc("model.py":8:0)
        tile.store %y["i0*s1 + i1"], %gelu
      }
    }
  }
}
