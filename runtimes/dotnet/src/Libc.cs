using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text;

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
        const int SIGPIPE = 13, SIG_DFL = 0, SHUT_WR = 1;

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

        [DllImport("libc", SetLastError = true)]
        static extern IntPtr shutdown(int fd, byte* how, IntPtr nothing);

        [DllImport("libc", SetLastError = true)]
        static extern IntPtr socketpair(int domain, byte* type, IntPtr protocol, int* pair);

        [DllImport("libc", SetLastError = true)]
        static extern IntPtr signal(int number, byte* handler, IntPtr nothing);

        [DllImport("libc", SetLastError = true)]
        static extern int clearenv();

        [DllImport("libc", SetLastError = true)]
        static extern int setenv(byte[] name, byte[] value, int overwrite);

        [DllImport("libc", SetLastError = true)]
        static extern int execv(byte[] path, IntPtr[] arguments);

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

        /// <summary>Two stream sockets that are connected to each other.</summary>
        public static int[] Pair()
        {
            int[] pair = { -1, -1 };
            fixed (int* p = pair) socketpair(AF_UNIX, (byte*)(SOCK_STREAM | SOCK_CLOEXEC), IntPtr.Zero, p);
            return pair;
        }

        /// <summary>The other side reads what was written, and then the end.</summary>
        public static void EndOfStream(int fd)
        {
            shutdown(fd, (byte*)SHUT_WR, IntPtr.Zero);
        }

        /// <summary>Makes these the process's environment; without null characters, and no name with a `=`.</summary>
        public static void ReplaceEnvironment(IEnumerable<KeyValuePair<string, string>> variables)
        {
            clearenv();
            foreach (KeyValuePair<string, string> variable in variables) setenv(Text(variable.Key), Text(variable.Value), 1);
        }

        /// <summary>Becomes another program, with the environment as ReplaceEnvironment left it. Returns if that fails.</summary>
        public static void Execute(params string[] arguments)
        {
            IntPtr[] pointers = new IntPtr[arguments.Length + 1];
            for (int i = 0; i < arguments.Length; i++)
            {
                byte[] text = Text(arguments[i]);
                pointers[i] = Marshal.AllocHGlobal(text.Length);
                Marshal.Copy(text, 0, pointers[i], text.Length);
            }
            // .NET ignores it, and what a program ignores the next one does.
            signal(SIGPIPE, (byte*)SIG_DFL, IntPtr.Zero);
            execv(Text(arguments[0]), pointers);
        }

        static byte[] Text(string text)
        {
            byte[] bytes = new byte[Encoding.UTF8.GetByteCount(text) + 1];
            Encoding.UTF8.GetBytes(text, 0, text.Length, bytes, 0);
            return bytes;
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
