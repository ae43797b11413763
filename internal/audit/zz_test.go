package audit
import ("testing";"time";"syscall")
func TestZZ(t *testing.T){
	l := openLog(t, t.TempDir()); fillLog(t, l, 50)
	var a,b syscall.Rusage
	syscall.Getrusage(0,&a); time.Sleep(4*time.Second); syscall.Getrusage(0,&b)
	t.Log("idle cpu ms/s", (b.Utime.Nano()+b.Stime.Nano()-a.Utime.Nano()-a.Stime.Nano())/4e6, b.Maxrss)
	t0 := time.Now(); for i := range 10 { add(t,l,eventLeaf(1000+i)) }; t.Log("append", time.Since(t0)/10)
}
