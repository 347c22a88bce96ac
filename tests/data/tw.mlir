builtin.module {
  func.func @forward(%x: !tw.tensor<[s0, 8], f32> loc("x"), %w: !tw.tensor<[8, 4], f32>, %i: !tw.tensor<[s0], i64>, %n: index) -> (!tw.tensor<[s0, 4], f32>, !tw.tensor<[], i64>) attributes {arg_strides = [#tw.dims<[8, 1]>, #tw.dims<[4, 1]>, #tw.dims<[1]>, #tw.dims<[]>], result_kinds = ["tensor", "int", "none"], result_strides = [#tw.dims<[4, 1]>], symbols = {s0 = #tw.dims<[0, 0]>, s1 = #tw.dims<[3]>}} {
    %c = tw.constant {value = #tw.scalar<"-inf">} : !tw.tensor<[], f32>
    %k = tw.iota {dim = #tw.dims<[1]>, start = #tw.dims<[s1]>, step = #tw.dims<[-2]>} : !tw.tensor<[s0, 8], i32>
    %z = tw.size {value = #tw.dims<["2*s0 + 1"]>} : !tw.tensor<[], i64>
    %seed = tw.seed : !tw.tensor<[], i64>
    %a = tw.map "maximum" %x, %c : (!tw.tensor<[s0, 8], f32>, !tw.tensor<[], f32>) -> !tw.tensor<[s0, 8], f32> loc("act"("model.py":12:0))
    %m = tw.reduce "max" %a {dims = #tw.dims<[1]>} : !tw.tensor<[s0, 8], f32> -> !tw.tensor<[s0, 1], f32>
    %s = tw.scan "sum" %a {dim = #tw.dims<[1]>} : !tw.tensor<[s0, 8], f32> -> !tw.tensor<[s0, 8], f32> loc(fused["a"("f.py":1:2), "g.py":3:0])
    %r = tw.reshape %s : !tw.tensor<[s0, 8], f32> -> !tw.tensor<[s0, 2, 4], f32>
    %p = tw.permute %r {dims = #tw.dims<[0, 2, 1]>} : !tw.tensor<[s0, 2, 4], f32> -> !tw.tensor<[s0, 4, 2], f32>
    %l = tw.slice %p {starts = #tw.dims<[0, 3, 0]>, steps = #tw.dims<[1, -1, 1]>} : !tw.tensor<[s0, 4, 2], f32> -> !tw.tensor<[s0, 4, 1], f32>
    %d = tw.pad %l {high = #tw.dims<[0, 1, 0]>, low = #tw.dims<[0, 0, 0]>, value = #tw.scalar<-0.0>} : !tw.tensor<[s0, 4, 1], f32> -> !tw.tensor<[s0, 5, 1], f32>
    %b = tw.broadcast %m : !tw.tensor<[s0, 1], f32> -> !tw.tensor<[s0, 4], f32>
    %e = tw.concat %b, %b {dim = #tw.dims<[1]>} : (!tw.tensor<[s0, 4], f32>, !tw.tensor<[s0, 4], f32>) -> !tw.tensor<[s0, 8], f32>
    %g = tw.gather %e at %i {dims = #tw.dims<[0]>, wrap = #tw.scalar<true>} : !tw.tensor<[s0, 8], f32>, !tw.tensor<[s0], i64> -> !tw.tensor<[s0, 8], f32>
    %j = tw.scatter "sum" %g, %e at %i {dims = #tw.dims<[0]>, wrap = #tw.scalar<false>} : !tw.tensor<[s0, 8], f32>, !tw.tensor<[s0, 8], f32>, !tw.tensor<[s0], i64> -> !tw.tensor<[s0, 8], f32>
    %y = tw.matmul %g, %w : (!tw.tensor<[s0, 8], f32>, !tw.tensor<[8, 4], f32>) -> !tw.tensor<[s0, 4], f32>
    %q = tw.reshape %y : !tw.tensor<[s0, 4], f32> -> !tw.tensor<[1, s0, 4], f32>
    %t = tw.attention %q, %q, %q {causal = #tw.scalar<true>, scale = #tw.scalar<0.5>, strides = #tw.dims<["4*s0", 4, 1]>} : (!tw.tensor<[1, s0, 4], f32>, !tw.tensor<[1, s0, 4], f32>, !tw.tensor<[1, s0, 4], f32>) -> !tw.tensor<[1, s0, 4], f32>
    %o = tw.conv %q, %q {dilation = #tw.dims<[1]>, groups = #tw.dims<[1]>, output_padding = #tw.dims<[0]>, padding = #tw.dims<[0]>, stride = #tw.dims<[1]>, strides = #tw.dims<[1, 1, 1]>, transposed = #tw.scalar<false>} : (!tw.tensor<[1, s0, 4], f32>, !tw.tensor<[1, s0, 4], f32>) -> !tw.tensor<[1, 1, 1], f32>
    %u, %v = tw.aten "aten.sort.default" %y {arguments = "(['%0', 'size:s0'], {})", reason = "not in the \22table\22", strides = [#tw.dims<[4, 1]>, #tw.dims<[4, 1]>]} : (!tw.tensor<[s0, 4], f32>) -> (!tw.tensor<[s0, 4], f32>, !tw.tensor<[s0, 4], i64>)
    %f = tw.fused {kind = "loop", numerics = "widens"} : !tw.tensor<[s0, 4], f32> {
      %h = tw.map "exp" %u : (!tw.tensor<[s0, 4], f32>) -> !tw.tensor<[s0, 4], f32>
      tw.yield %h : !tw.tensor<[s0, 4], f32>
    }
    tw.return %f, %z : !tw.tensor<[s0, 4], f32>, !tw.tensor<[], i64>
  }
}
