// RUN: tilewright opt %s -p "softmax-division" | filecheck %s

// CHECK-LABEL: func.func @softmax
// CHECK:         %t = tw.reduce "sum"
// CHECK-NEXT:    %[[R:.*]] = tw.map "reciprocal" %t
// CHECK-NEXT:    %y = tw.map "mul" %e, %[[R]]
func.func @softmax(%x: !tw.tensor<[s0, 33], f32>) -> !tw.tensor<[s0, 33], f32> {
  %m = tw.reduce "max" %x {dims = #tw.dims<[1]>} : !tw.tensor<[s0, 33], f32> -> !tw.tensor<[s0, 1], f32>
  %s = tw.map "sub" %x, %m : (!tw.tensor<[s0, 33], f32>, !tw.tensor<[s0, 1], f32>) -> !tw.tensor<[s0, 33], f32>
  %e = tw.map "exp" %s : (!tw.tensor<[s0, 33], f32>) -> !tw.tensor<[s0, 33], f32>
  %t = tw.reduce "sum" %e {dims = #tw.dims<[1]>} : !tw.tensor<[s0, 33], f32> -> !tw.tensor<[s0, 1], f32>
  %y = tw.map "div" %e, %t : (!tw.tensor<[s0, 33], f32>, !tw.tensor<[s0, 1], f32>) -> !tw.tensor<[s0, 33], f32>
  tw.return %y : !tw.tensor<[s0, 33], f32>
}

// Nothing says that this sum is not tiny.
// CHECK-LABEL: func.func @another_sum
// CHECK:         tw.map "div"
func.func @another_sum(%x: !tw.tensor<[s0, 33], f32>) -> !tw.tensor<[s0, 33], f32> {
  %e = tw.map "exp" %x : (!tw.tensor<[s0, 33], f32>) -> !tw.tensor<[s0, 33], f32>
  %t = tw.reduce "sum" %e {dims = #tw.dims<[1]>} : !tw.tensor<[s0, 33], f32> -> !tw.tensor<[s0, 1], f32>
  %y = tw.map "div" %e, %t : (!tw.tensor<[s0, 33], f32>, !tw.tensor<[s0, 1], f32>) -> !tw.tensor<[s0, 33], f32>
  tw.return %y : !tw.tensor<[s0, 33], f32>
}
