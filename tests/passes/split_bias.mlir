// RUN: tilewright opt %s -p "split-bias" | filecheck %s

// CHECK-LABEL: func.func @read_by_a_kernel
// CHECK-NEXT:    %y = tw.matmul %a, %b : (
// CHECK-NEXT:    %y_1 = tw.map "add" %y, %bias
// CHECK-NEXT:    %z = tw.map "tanh" %y_1
func.func @read_by_a_kernel(%a: !tw.tensor<[s0, 3], f32>, %b: !tw.tensor<[3, 4], f32>, %bias: !tw.tensor<[4], f32>) -> !tw.tensor<[s0, 4], f32> {
  %y = tw.matmul %a, %b, %bias : (!tw.tensor<[s0, 3], f32>, !tw.tensor<[3, 4], f32>, !tw.tensor<[4], f32>) -> !tw.tensor<[s0, 4], f32>
  %z = tw.map "tanh" %y : (!tw.tensor<[s0, 4], f32>) -> !tw.tensor<[s0, 4], f32>
  tw.return %z : !tw.tensor<[s0, 4], f32>
}

// Also behind views.
// CHECK-LABEL: func.func @behind_a_view
// CHECK-NEXT:    tw.matmul %a, %b : (
// CHECK-NEXT:    tw.map "add"
// CHECK-NEXT:    tw.permute
func.func @behind_a_view(%a: !tw.tensor<[s0, 3], f32>, %b: !tw.tensor<[3, 4], f32>, %bias: !tw.tensor<[4], f32>) -> !tw.tensor<[4, s0], f32> {
  %y = tw.matmul %a, %b, %bias : (!tw.tensor<[s0, 3], f32>, !tw.tensor<[3, 4], f32>, !tw.tensor<[4], f32>) -> !tw.tensor<[s0, 4], f32>
  %t = tw.permute %y {dims = #tw.dims<[1, 0]>} : !tw.tensor<[s0, 4], f32> -> !tw.tensor<[4, s0], f32>
  %z = tw.map "tanh" %t : (!tw.tensor<[4, s0], f32>) -> !tw.tensor<[4, s0], f32>
  tw.return %z : !tw.tensor<[4, s0], f32>
}

// The caller, or another library call, gets the library's result.
// CHECK-LABEL: func.func @returned
// CHECK-NEXT:    %y = tw.matmul %a, %b, %bias
// CHECK-NEXT:    %w = tw.matmul %y, %y, %bias
// CHECK-NEXT:    %z = tw.map "tanh" %y
func.func @returned(%a: !tw.tensor<[4, 4], f32>, %b: !tw.tensor<[4, 4], f32>, %bias: !tw.tensor<[4], f32>) -> (!tw.tensor<[4, 4], f32>, !tw.tensor<[4, 4], f32>) {
  %y = tw.matmul %a, %b, %bias : (!tw.tensor<[4, 4], f32>, !tw.tensor<[4, 4], f32>, !tw.tensor<[4], f32>) -> !tw.tensor<[4, 4], f32>
  %w = tw.matmul %y, %y, %bias : (!tw.tensor<[4, 4], f32>, !tw.tensor<[4, 4], f32>, !tw.tensor<[4], f32>) -> !tw.tensor<[4, 4], f32>
  %z = tw.map "tanh" %y : (!tw.tensor<[4, 4], f32>) -> !tw.tensor<[4, 4], f32>
  tw.return %w, %z : !tw.tensor<[4, 4], f32>, !tw.tensor<[4, 4], f32>
}

// A half would be rounded twice.
// CHECK-LABEL: func.func @half
// CHECK-NEXT:    %y = tw.matmul %a, %b, %bias
func.func @half(%a: !tw.tensor<[4, 4], bf16>, %b: !tw.tensor<[4, 4], bf16>, %bias: !tw.tensor<[4], bf16>) -> !tw.tensor<[4, 4], bf16> {
  %y = tw.matmul %a, %b, %bias : (!tw.tensor<[4, 4], bf16>, !tw.tensor<[4, 4], bf16>, !tw.tensor<[4], bf16>) -> !tw.tensor<[4, 4], bf16>
  %z = tw.map "tanh" %y : (!tw.tensor<[4, 4], bf16>) -> !tw.tensor<[4, 4], bf16>
  tw.return %z : !tw.tensor<[4, 4], bf16>
}
