// RUN: tilewright opt %s -p "cse" | filecheck %s

// CHECK-LABEL: func.func @swapped
// CHECK-NEXT:    %a = tw.map "mul" %x, %y
// CHECK-NEXT:    tw.return %a, %a
func.func @swapped(%x: !tw.tensor<[s0], f32>, %y: !tw.tensor<[s0], f32>) -> (!tw.tensor<[s0], f32>, !tw.tensor<[s0], f32>) {
  %a = tw.map "mul" %x, %y : (!tw.tensor<[s0], f32>, !tw.tensor<[s0], f32>) -> !tw.tensor<[s0], f32>
  %b = tw.map "mul" %y, %x : (!tw.tensor<[s0], f32>, !tw.tensor<[s0], f32>) -> !tw.tensor<[s0], f32>
  tw.return %a, %b : !tw.tensor<[s0], f32>, !tw.tensor<[s0], f32>
}

// The order of a difference matters, and so do properties.
// CHECK-LABEL: func.func @different
// CHECK:         tw.map "sub" %x, %y
// CHECK:         tw.map "sub" %y, %x
// CHECK:         dims = #tw.dims<[0]>
// CHECK:         dims = #tw.dims<[1]>
func.func @different(%x: !tw.tensor<[4, 4], f32>, %y: !tw.tensor<[4, 4], f32>) -> (!tw.tensor<[1, 4], f32>, !tw.tensor<[4, 1], f32>) {
  %a = tw.map "sub" %x, %y : (!tw.tensor<[4, 4], f32>, !tw.tensor<[4, 4], f32>) -> !tw.tensor<[4, 4], f32>
  %b = tw.map "sub" %y, %x : (!tw.tensor<[4, 4], f32>, !tw.tensor<[4, 4], f32>) -> !tw.tensor<[4, 4], f32>
  %c = tw.reduce "max" %a {dims = #tw.dims<[0]>} : !tw.tensor<[4, 4], f32> -> !tw.tensor<[1, 4], f32>
  %d = tw.reduce "max" %b {dims = #tw.dims<[1]>} : !tw.tensor<[4, 4], f32> -> !tw.tensor<[4, 1], f32>
  tw.return %c, %d : !tw.tensor<[1, 4], f32>, !tw.tensor<[4, 1], f32>
}
