builtin.module {
  tile.kernel @softmax(%x: !tile.ref<bf16>, %rows: !tile.ref<i64>, %y: !tile.ref<f32>) {kind = "loop", outputs = #tw.dims<[2]>, sizes = ["s0"]} {
    tile.for i0 in [s0] parallel {
      %row = tile.load %rows[i0] : i64
      tile.index j0 = %row in [30522] wrap if ["i0 - 5"]
      %scratch = tile.alloc [1000] : f32
      tile.dot %scratch[0] strides [10] += %y[i0] strides [s0, 1] x %y["3*i0"] strides [1, 2] in [10, "s0 + 1", 4]
      %m = tile.for i1 in [1000] vector block [4096] reduce ["max"] : f32 {
        %a = tile.load %x["i1 + 1000*j0"] if ["i1 - 5", "-i1 + 990"] else "-inf" : f32
        tile.store %scratch[i1], %a
        tile.yield %a
      }
      %s = tile.for i2 in [1000] serial reduce ["sum"] : f32 {
        %b = tile.load %scratch[i2] : f32
        %d = tile.map "sub" %b, %m : f32
        %e = tile.map "exp" %d : f32
        %t = tile.scan "sum" %e : f32
        %p = tile.expr ["i2 + 3"] : i64
        %c = tile.cond ["i2 - 5"]
        %z = tile.constant 0.0 : f32
        %w = tile.map "where" %c, %e, %z : f32
        tile.yield %w
      }
      tile.for i3 in [1000] vector {
        %a_1 = tile.load %x["i3 + 1000*j0"] : f32
        tile.store %y["1000*i0 + i3"], %a_1
        tile.update "sum" %y[i3], %a_1
      }
    }
  }
  tile.kernel @largest(%x: !tile.ref<f32>, %y: !tile.ref<f32>) {kind = "loop", outputs = #tw.dims<[1]>, sizes = ["s0"], schedule = {ROWS = 2 : i64, COLS = 16 : i64, num_warps = 1 : i64}} {
    tile.for i0 in [s0] parallel by ROWS {
      tile.for k0 in [10] block by COLS {
        %a = tile.load %x["10*i0 + k0"] : f32
        %m = tile.reduce "max" %a over [k0] : f32
        %d = tile.map "sub" %a, %m : f32
        tile.store %y["10*i0 + k0"], %d
      }
    }
  }
  func.func @forward(%x: !prog.buffer<[30522, 1000], [1000, 1], bf16>, %rows: !prog.buffer<[s0], [1], i64>) -> !prog.buffer<[s0, s0], [s0, 1], f32> attributes {result_kinds = ["tensor"], symbols = {s0 = #tw.dims<[1, 0]>}} {
    %arena = prog.arena {size = #tw.dims<["4000*s0"]>} : !prog.arena_type
    %t = prog.buffer %arena {live = #tw.dims<[0, 1]>, offset = #tw.dims<[0]>} : !prog.buffer<[s0, 1000], [1000, 1], f32>
    %n = prog.alloc : !prog.buffer<[4], [1], i32>
    %o = prog.output : !prog.buffer<[s0, s0], [s0, 1], f32>
    prog.launch @softmax %x, %rows, %t : !prog.buffer<[30522, 1000], [1000, 1], bf16>, !prog.buffer<[s0], [1], i64>, !prog.buffer<[s0, 1000], [1000, 1], f32> loc("model.py":4:0)
    %v = prog.view %t {offset = #tw.dims<[0]>} : !prog.buffer<[s0, 1000], [1000, 1], f32> -> !prog.buffer<[1000, s0], [1, 1000], f32>
    prog.extern "aten.mm.out" %t, %v, %o {arguments = "(['%0', '%1'], {'out': '%2'})"} : (!prog.buffer<[s0, 1000], [1000, 1], f32>, !prog.buffer<[1000, s0], [1, 1000], f32>, !prog.buffer<[s0, s0], [s0, 1], f32>) -> ()
    prog.return %o : !prog.buffer<[s0, s0], [s0, 1], f32>
  }
}
