using System;
using System.Runtime.InteropServices;

namespace Kennel
{
    /// <summary>The handful of system calls the bootstrap makes itself.</summary>
    /// <remarks>
    /// System.Net.Sockets and System.Console cost some 8 and 3 ms of CPU before their first byte; these cost half
    /// a millisecond. All have one signature, so that the runtime compiles one stub for them: numbers and addresses
    /// travel in registers of one kind, and what a function does not take it does not look at.
    /// </remarks>
    static unsafe class Libc
    {
        public const int AF_UNIX = 1, AF_INET = 2;
        const int SOCK_STREAM = 1, SOCK_CLOEXEC = 0x80000;
        const int EINTR = 4, EAGAIN = 11;

        [DllImport("libc", SetLastError = true)]
        static extern IntPtr socket(int domain, byte* type, IntPtr protocol);

        [DllImport("libc", SetLastError = true)]
        static extern IntPtr connect(int fd, byte* address, IntPtr length);

        [DllImport("libc", SetLastError = true)]
        static extern IntPtr read(int fd, byte* to, IntPtr count);

        [DllImport("libc", SetLastError = true)]
        static extern IntPtr write(int fd, byte* from, IntPtr count);

        [DllImport("libc", SetLastError = true)]
        static extern IntPtr close(int fd, byte* nothing, IntPtr nor);

        /// <summary>A stream socket connected to a `sockaddr`, whose first byte is the family; -1 if nobody answers there.</summary>
        public static int Connect(byte[] address)
        {
            int fd = Int(socket(address[0], (byte*)(SOCK_STREAM | SOCK_CLOEXEC), IntPtr.Zero));
            fixed (byte* p = address)
            {
                if (fd < 0 || Int(connect(fd, p, (IntPtr)address.Length)) == 0) return fd;
            }
            Close(fd);
            return -1;
        }

        public static void Close(int fd)
        {
            close(fd, null, IntPtr.Zero);
        }

        // Of a C int only the lower half of the register means something.
        static int Int(IntPtr result)
        {
            return unchecked((int)(long)result);
        }

        /// <summary>Reads once; 0 at the end of the stream, -1 on an error.</summary>
        public static int Read(int fd, byte[] to, int at, int count)
        {
            fixed (byte* p = to)
            {
                while (true)
                {
                    int n = (int)read(fd, p + at, (IntPtr)count);
                    if (n >= 0 || !Again()) return n;
                }
            }
        }

        /// <summary>Writes all; false when the other side is gone.</summary>
        public static bool Write(int fd, byte[] from, int at, int count)
        {
            fixed (byte* p = from)
            {
                while (count > 0)
                {
                    int n = (int)write(fd, p + at, (IntPtr)count);
                    if (n < 0)
                    {
                        if (Again()) continue;
                        return false;
                    }
                    at += n;
                    count -= n;
                }
            }
            return true;
        }

        // EAGAIN: whoever shares a log pipe may have made it non-blocking.
        static bool Again()
        {
            int error = Marshal.GetLastWin32Error();
            if (error == EAGAIN) System.Threading.Thread.Sleep(1);
            return error == EINTR || error == EAGAIN;
        }
    }
}
