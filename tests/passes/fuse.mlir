// RUN: tilewright opt %s -p "fuse" | filecheck %s

// Maps join maps; constants come along.
// CHECK-LABEL: func.func @maps
// CHECK-NEXT:    %c = tw.fused {kind = "loop", numerics = "exact"} : !tw.tensor<[s0, 7], f32> {
// CHECK-NEXT:      %a = tw.map "add" %x, %bias
// CHECK-NEXT:      %h = tw.constant
// CHECK-NEXT:      %b = tw.map "tanh" %a
// CHECK-NEXT:      %c_1 = tw.map "mul" %b, %h
// CHECK-NEXT:      tw.yield %c_1
// CHECK-NEXT:    }
// CHECK-NEXT:    tw.return %c
func.func @maps(%x: !tw.tensor<[s0, 7], f32>, %bias: !tw.tensor<[7], f32>) -> !tw.tensor<[s0, 7], f32> {
  %a = tw.map "add" %x, %bias : (!tw.tensor<[s0, 7], f32>, !tw.tensor<[7], f32>) -> !tw.tensor<[s0, 7], f32>
  %h = tw.constant {value = #tw.scalar<0.5>} : !tw.tensor<[], f32>
  %b = tw.map "tanh" %a : (!tw.tensor<[s0, 7], f32>) -> !tw.tensor<[s0, 7], f32>
  %c = tw.map "mul" %b, %h : (!tw.tensor<[s0, 7], f32>, !tw.tensor<[], f32>) -> !tw.tensor<[s0, 7], f32>
  tw.return %c : !tw.tensor<[s0, 7], f32>
}

// A chain of halves may stay in f32 inside.
// CHECK-LABEL: func.func @halves
// CHECK:         tw.fused {kind = "loop", numerics = "widens"}
func.func @halves(%x: !tw.tensor<[7], bf16>) -> !tw.tensor<[7], bf16> {
  %a = tw.map "tanh" %x : (!tw.tensor<[7], bf16>) -> !tw.tensor<[7], bf16>
  %b = tw.map "neg" %a : (!tw.tensor<[7], bf16>) -> !tw.tensor<[7], bf16>
  tw.return %b : !tw.tensor<[7], bf16>
}

// Several reductions over the same rows, and what follows from them, are one kernel.
// CHECK-LABEL: func.func @softmax
// CHECK:         tw.fused
// CHECK-NEXT:      tw.reduce "max"
// CHECK-NEXT:      tw.map "sub"
// CHECK-NEXT:      tw.map "exp"
// CHECK-NEXT:      tw.reduce "sum"
// CHECK-NEXT:      tw.map "div"
// CHECK-NEXT:      tw.yield
// CHECK-NOT:     tw.fused
func.func @softmax(%x: !tw.tensor<[s0, s1], f32>) -> !tw.tensor<[s0, s1], f32> {
  %m = tw.reduce "max" %x {dims = #tw.dims<[1]>} : !tw.tensor<[s0, s1], f32> -> !tw.tensor<[s0, 1], f32>
  %d = tw.map "sub" %x, %m : (!tw.tensor<[s0, s1], f32>, !tw.tensor<[s0, 1], f32>) -> !tw.tensor<[s0, s1], f32>
  %e = tw.map "exp" %d : (!tw.tensor<[s0, s1], f32>) -> !tw.tensor<[s0, s1], f32>
  %s = tw.reduce "sum" %e {dims = #tw.dims<[1]>} : !tw.tensor<[s0, s1], f32> -> !tw.tensor<[s0, 1], f32>
  %f = tw.map "div" %e, %s : (!tw.tensor<[s0, s1], f32>, !tw.tensor<[s0, 1], f32>) -> !tw.tensor<[s0, s1], f32>
  tw.return %f : !tw.tensor<[s0, s1], f32>
}

// What only shares an input is walked together too.
// CHECK-LABEL: func.func @siblings
// CHECK:         %a, %m, %s = tw.fused
// CHECK-NOT:     tw.fused
func.func @siblings(%x: !tw.tensor<[s0, 1009], f32>) -> (!tw.tensor<[s0, 1009], f32>, !tw.tensor<[s0, 1], f32>, !tw.tensor<[s0, 1], f32>) {
  %a = tw.map "tanh" %x : (!tw.tensor<[s0, 1009], f32>) -> !tw.tensor<[s0, 1009], f32>
  %m = tw.reduce "max" %x {dims = #tw.dims<[1]>} : !tw.tensor<[s0, 1009], f32> -> !tw.tensor<[s0, 1], f32>
  %s = tw.reduce "sum" %x {dims = #tw.dims<[1]>} : !tw.tensor<[s0, 1009], f32> -> !tw.tensor<[s0, 1], f32>
  tw.return %a, %m, %s : !tw.tensor<[s0, 1009], f32>, !tw.tensor<[s0, 1], f32>, !tw.tensor<[s0, 1], f32>
}

// Views, gathers, borders and joined tensors are index arithmetic inside.
// CHECK-LABEL: func.func @indexing
// CHECK:         tw.fused
// CHECK-NEXT:      tw.gather
// CHECK-NEXT:      tw.permute
// CHECK-NEXT:      tw.pad
// CHECK-NEXT:      tw.concat
// CHECK-NEXT:      tw.map "neg"
// CHECK-NEXT:      tw.yield
// CHECK-NOT:     tw.fused
func.func @indexing(%t: !tw.tensor<[9, 4], f32>, %i: !tw.tensor<[s0], i64>, %y: !tw.tensor<[2, s0], f32>) -> !tw.tensor<[7, s0], f32> {
  %g = tw.gather %t at %i {dims = #tw.dims<[0]>, wrap = #tw.scalar<true>} : !tw.tensor<[9, 4], f32>, !tw.tensor<[s0], i64> -> !tw.tensor<[s0, 4], f32>
  %p = tw.permute %g {dims = #tw.dims<[1, 0]>} : !tw.tensor<[s0, 4], f32> -> !tw.tensor<[4, s0], f32>
  %b = tw.pad %p {low = #tw.dims<[1, 0]>, high = #tw.dims<[0, 0]>, value = #tw.scalar<0.0>} : !tw.tensor<[4, s0], f32> -> !tw.tensor<[5, s0], f32>
  %c = tw.concat %b, %y {dim = #tw.dims<[0]>} : (!tw.tensor<[5, s0], f32>, !tw.tensor<[2, s0], f32>) -> !tw.tensor<[7, s0], f32>
  %n = tw.map "neg" %c : (!tw.tensor<[7, s0], f32>) -> !tw.tensor<[7, s0], f32>
  tw.return %n : !tw.tensor<[7, s0], f32>
}

// A square that two kernels need, which cannot be one, is computed in both.
// CHECK-LABEL: func.func @twice
// CHECK:         tw.fused
// CHECK-NEXT:      tw.map "mul" %x, %x
// CHECK-NEXT:      tw.reduce "max" {{.*}} {dims = #tw.dims<[0]>}
// CHECK:         tw.fused
// CHECK-NEXT:      tw.map "mul" %x, %x
// CHECK-NEXT:      tw.reduce "max" {{.*}} {dims = #tw.dims<[1]>}
// CHECK-NOT:     tw.fused
func.func @twice(%x: !tw.tensor<[1000, 700], f32>) -> (!tw.tensor<[1, 700], f32>, !tw.tensor<[1000, 1], f32>) {
  %s = tw.map "mul" %x, %x : (!tw.tensor<[1000, 700], f32>, !tw.tensor<[1000, 700], f32>) -> !tw.tensor<[1000, 700], f32>
  %a = tw.reduce "max" %s {dims = #tw.dims<[0]>} : !tw.tensor<[1000, 700], f32> -> !tw.tensor<[1, 700], f32>
  %b = tw.reduce "max" %s {dims = #tw.dims<[1]>} : !tw.tensor<[1000, 700], f32> -> !tw.tensor<[1000, 1], f32>
  tw.return %a, %b : !tw.tensor<[1, 700], f32>, !tw.tensor<[1000, 1], f32>
}

// The library product needs the exponentials and feeds the sum: they cannot be one kernel.
// CHECK-LABEL: func.func @cycle
// CHECK-NEXT:    %a = tw.fused
// CHECK-NEXT:      tw.map "exp"
// CHECK:         %p = tw.matmul %a, %w
// CHECK-NEXT:    %s = tw.fused
// CHECK-NEXT:      tw.map "add" %a, %p
func.func @cycle(%x: !tw.tensor<[5, 5], f32>, %w: !tw.tensor<[5, 5], f32>) -> !tw.tensor<[5, 5], f32> {
  %a = tw.map "exp" %x : (!tw.tensor<[5, 5], f32>) -> !tw.tensor<[5, 5], f32>
  %p = tw.matmul %a, %w : (!tw.tensor<[5, 5], f32>, !tw.tensor<[5, 5], f32>) -> !tw.tensor<[5, 5], f32>
  %s = tw.map "add" %a, %p : (!tw.tensor<[5, 5], f32>, !tw.tensor<[5, 5], f32>) -> !tw.tensor<[5, 5], f32>
  tw.return %s : !tw.tensor<[5, 5], f32>
}

// A view that strides can express needs no kernel; one that they cannot is a copy in a kernel of its own.
// CHECK-LABEL: func.func @views
// CHECK-NEXT:    %t = tw.permute %x
// CHECK-NEXT:    %r = tw.fused
// CHECK-NEXT:      tw.permute %x
// CHECK-NEXT:      tw.reshape
// CHECK:         tw.return %t, %r
func.func @views(%x: !tw.tensor<[3, 4], f32>) -> (!tw.tensor<[4, 3], f32>, !tw.tensor<[12], f32>) {
  %t = tw.permute %x {dims = #tw.dims<[1, 0]>} : !tw.tensor<[3, 4], f32> -> !tw.tensor<[4, 3], f32>
  %r = tw.reshape %t : !tw.tensor<[4, 3], f32> -> !tw.tensor<[12], f32>
  tw.return %t, %r : !tw.tensor<[4, 3], f32>, !tw.tensor<[12], f32>
}
