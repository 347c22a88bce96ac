// RUN: tilewright opt %s -p "canonicalize" | filecheck %s

// Constants to the right, with rank 0; no view that changes nothing.
// CHECK-LABEL: func.func @constants
// CHECK-NEXT:    [[C:%.+]] = tw.constant {value = #tw.scalar<2.0>} : !tw.tensor<[], f32>
// CHECK-NEXT:    %y = tw.map "mul" %x, [[C]]
// CHECK-NEXT:    tw.return %y
func.func @constants(%x: !tw.tensor<[4, s0], f32>) -> !tw.tensor<[4, s0], f32> {
  %c = tw.constant {value = #tw.scalar<2.0>} : !tw.tensor<[1], f32>
  %b = tw.broadcast %c : !tw.tensor<[1], f32> -> !tw.tensor<[4, s0], f32>
  %y = tw.map "mul" %b, %x : (!tw.tensor<[4, s0], f32>, !tw.tensor<[4, s0], f32>) -> !tw.tensor<[4, s0], f32>
  %z = tw.permute %y {dims = #tw.dims<[0, 1]>} : !tw.tensor<[4, s0], f32> -> !tw.tensor<[4, s0], f32>
  tw.return %z : !tw.tensor<[4, s0], f32>
}

// A map broadcasts by itself, unless the broadcast gives its shape.
// CHECK-LABEL: func.func @broadcasts
// CHECK-NEXT:    %a = tw.map "add" %x, %y
// CHECK-NEXT:    [[B:%.+]] = tw.broadcast %y
// CHECK-NEXT:    %c = tw.map "add" [[B]], %y
func.func @broadcasts(%x: !tw.tensor<[4, 8], f32>, %y: !tw.tensor<[8], f32>) -> (!tw.tensor<[4, 8], f32>, !tw.tensor<[2, 8], f32>) {
  %b = tw.broadcast %y : !tw.tensor<[8], f32> -> !tw.tensor<[4, 8], f32>
  %a = tw.map "add" %x, %b : (!tw.tensor<[4, 8], f32>, !tw.tensor<[4, 8], f32>) -> !tw.tensor<[4, 8], f32>
  %d = tw.broadcast %y : !tw.tensor<[8], f32> -> !tw.tensor<[2, 8], f32>
  %c = tw.map "add" %d, %y : (!tw.tensor<[2, 8], f32>, !tw.tensor<[8], f32>) -> !tw.tensor<[2, 8], f32>
  tw.return %a, %c : !tw.tensor<[4, 8], f32>, !tw.tensor<[2, 8], f32>
}

// Two views of a kind are one, and broadcasts come last.
// CHECK-LABEL: func.func @views
// CHECK-NEXT:    %p = tw.permute %x {dims = #tw.dims<[2, 0, 1]>}
// CHECK-NEXT:    %s = tw.slice %x {starts = #tw.dims<[0, 5, 0]>, steps = #tw.dims<[1, -6, 1]>}
// CHECK-NEXT:    [[R:%.+]] = tw.reshape %y : !tw.tensor<[s0], f32> -> !tw.tensor<[s0, 1], f32>
// CHECK-NEXT:    %t = tw.broadcast [[R]] : !tw.tensor<[s0, 1], f32> -> !tw.tensor<[s0, 7], f32>
// CHECK-NEXT:    tw.return %p, %s, %t
func.func @views(%x: !tw.tensor<[2, 9, 4], f32>, %y: !tw.tensor<[s0], f32>) -> (!tw.tensor<[4, 2, 9], f32>, !tw.tensor<[2, 1, 4], f32>, !tw.tensor<[s0, 7], f32>) {
  %a = tw.permute %x {dims = #tw.dims<[1, 2, 0]>} : !tw.tensor<[2, 9, 4], f32> -> !tw.tensor<[9, 4, 2], f32>
  %p = tw.permute %a {dims = #tw.dims<[1, 2, 0]>} : !tw.tensor<[9, 4, 2], f32> -> !tw.tensor<[4, 2, 9], f32>
  %b = tw.slice %x {starts = #tw.dims<[0, 1, 0]>, steps = #tw.dims<[1, 2, 1]>} : !tw.tensor<[2, 9, 4], f32> -> !tw.tensor<[2, 4, 4], f32>
  %s = tw.slice %b {starts = #tw.dims<[0, 2, 0]>, steps = #tw.dims<[1, -3, 1]>} : !tw.tensor<[2, 4, 4], f32> -> !tw.tensor<[2, 1, 4], f32>
  %c = tw.broadcast %y : !tw.tensor<[s0], f32> -> !tw.tensor<[7, s0], f32>
  %t = tw.permute %c {dims = #tw.dims<[1, 0]>} : !tw.tensor<[7, s0], f32> -> !tw.tensor<[s0, 7], f32>
  tw.return %p, %s, %t : !tw.tensor<[4, 2, 9], f32>, !tw.tensor<[2, 1, 4], f32>, !tw.tensor<[s0, 7], f32>
}
