builtin.module {
  tile.kernel @total(%x: !tile.ref<f32>, %sum: !tile.ref<f32>, %position: !tile.ref<i64>, %low: !tile.ref<i32>) {kind = "loop", outputs = #tw.dims<[1, 2, 3]>, sizes = ["s0"]} {
    %s, %p, %l = tile.for i in [s0] parallel block [1024] reduce ["sum", "argmax", "min"] : f32, i64, i32 {
      %a = tile.load %x[i] : f32
      %n = tile.map "cast" %a : i32
      tile.yield %a, %a, %n
    }
    tile.store %sum[0], %s
    tile.store %position[0], %p
    tile.store %low[0], %l
  }
}
