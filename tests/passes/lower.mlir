// RUN: tilewright opt %s -p "lower" | filecheck %s

// A region becomes a kernel and a launch; the product writes to memory of ours; the result has the caller's layout.
// CHECK:       tile.kernel @max_sub(%x: !tile.ref<f32>, %d: !tile.ref<f32>) {kind = "loop", outputs = #tw.dims<[1]>, sizes = ["s0"]} {
// CHECK-NEXT:    tile.for i0 in [s0] parallel {
// CHECK-NEXT:      %m = tile.for k0 in [8] vector reduce ["max"] : f32 {
// CHECK-NEXT:        %x_1 = tile.load %x["8*i0 + k0"] : f32
// CHECK-NEXT:        tile.yield %x_1
// CHECK-NEXT:      }
// CHECK-NEXT:      tile.for k0 in [8] vector {
// CHECK-NEXT:        %x_2 = tile.load %x["8*i0 + k0"] : f32
// CHECK-NEXT:        %d_1 = tile.map "sub" %x_2, %m : f32
// CHECK-NEXT:        tile.store %d["8*i0 + k0"], %d_1
// CHECK:       tile.kernel @exp_kernel
// CHECK-NEXT:    tile.for i0 in ["4*s0"] parallel {
// CHECK-LABEL: func.func @forward(%x: !prog.buffer<[s0, 8], [8, 1], f32>
// CHECK-NEXT:    %r = prog.alloc : !prog.buffer<[s0, 8], [8, 1], f32>
// CHECK-NEXT:    prog.launch @max_sub %x, %r
// CHECK-NEXT:    %p = prog.alloc : !prog.buffer<[s0, 4], [4, 1], f32>
// CHECK-NEXT:    prog.extern "aten.mm.out" %r, %w, %p {arguments = "(['%0', '%1'], {'out': '%2'})"}
// CHECK-NEXT:    %e = prog.output : !prog.buffer<[4, s0], [1, 4], f32>
// CHECK-NEXT:    prog.launch @exp_kernel %p, %e
// CHECK-NEXT:    prog.return %e
func.func @forward(%x: !tw.tensor<[s0, 8], f32>, %w: !tw.tensor<[8, 4], f32>) -> !tw.tensor<[4, s0], f32> attributes {arg_strides = [#tw.dims<[8, 1]>, #tw.dims<[4, 1]>], result_strides = [#tw.dims<[1, 4]>], symbols = {s0 = #tw.dims<[0, 0]>}} {
  %r = tw.fused {kind = "loop", numerics = "exact"} : !tw.tensor<[s0, 8], f32> {
    %m = tw.reduce "max" %x {dims = #tw.dims<[1]>} : !tw.tensor<[s0, 8], f32> -> !tw.tensor<[s0, 1], f32>
    %d = tw.map "sub" %x, %m : (!tw.tensor<[s0, 8], f32>, !tw.tensor<[s0, 1], f32>) -> !tw.tensor<[s0, 8], f32>
    tw.yield %d : !tw.tensor<[s0, 8], f32>
  }
  %p = tw.matmul %r, %w : (!tw.tensor<[s0, 8], f32>, !tw.tensor<[8, 4], f32>) -> !tw.tensor<[s0, 4], f32>
  %t = tw.permute %p {dims = #tw.dims<[1, 0]>} : !tw.tensor<[s0, 4], f32> -> !tw.tensor<[4, s0], f32>
  %e = tw.map "exp" %t : (!tw.tensor<[4, s0], f32>) -> !tw.tensor<[4, s0], f32>
  tw.return %e : !tw.tensor<[4, s0], f32>
}

// Equal regions share a kernel.
// CHECK:       tile.kernel @neg_kernel
// CHECK-NOT:   tile.kernel
// CHECK-LABEL: func.func @twins
// CHECK:         prog.launch @neg_kernel %x,
// CHECK:         prog.launch @neg_kernel %y,
func.func @twins(%x: !tw.tensor<[4], f32>, %y: !tw.tensor<[4], f32>) -> (!tw.tensor<[4], f32>, !tw.tensor<[4], f32>) {
  %a = tw.map "neg" %x : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
  %b = tw.map "neg" %y : (!tw.tensor<[4], f32>) -> !tw.tensor<[4], f32>
  tw.return %a, %b : !tw.tensor<[4], f32>, !tw.tensor<[4], f32>
}

// A view of an argument is the argument's memory; strides say where its elements are.
// CHECK-LABEL: func.func @view
// CHECK-NEXT:    %t = prog.view %x {offset = #tw.dims<[2]>} : !prog.buffer<[4, 6], [6, 1], f32> -> !prog.buffer<[4, 2], [6, 2], f32>
// CHECK-NEXT:    prog.return %t
func.func @view(%x: !tw.tensor<[4, 6], f32>) -> !tw.tensor<[4, 2], f32> {
  %t = tw.slice %x {starts = #tw.dims<[0, 2]>, steps = #tw.dims<[1, 2]>} : !tw.tensor<[4, 6], f32> -> !tw.tensor<[4, 2], f32>
  tw.return %t : !tw.tensor<[4, 2], f32>
}
