using System;
using System.IO;
using System.Text;

namespace Kennel
{
    /// <summary>A client of the Runtime API, 2018-06-01: one connection, one request at a time, no threads.</summary>
    /// <remarks>HTTP/1.1 over Kennel's Unix socket where there is one, else over TCP to AWS_LAMBDA_RUNTIME_API.</remarks>
    sealed class RuntimeApi
    {
        const string Root = " /2018-06-01/runtime/";

        readonly string _unix, _tcp;
        int _fd = -1;
        byte[] _in = new byte[16384];
        int _length;     // bytes in _in
        int _bodyStart;  // where the answer's body begins in _in

        public RuntimeApi(string unixSocket, string hostAndPort)
        {
            _unix = unixSocket;
            _tcp = hostAndPort;
        }

        /// <summary>Over a connection that stands already, and over no other.</summary>
        public RuntimeApi(int fd)
        {
            _fd = fd;
        }

        /// <summary>The last answer's status, 0 if the connection broke.</summary>
        public int Status { get; private set; }

        /// <summary>The last answer's body.</summary>
        public ArraySegment<byte> Body { get; private set; }

        /// <summary>Waits for the next event; false when the other side is gone for good.</summary>
        public bool Next()
        {
            return Exchange("GET" + Root + "invocation/next HTTP/1.1\r\nHost: kennel\r\n\r\n", null, 0) && Status == 200;
        }

        /// <summary>Waits until this process is told what it is for: the answer's body.</summary>
        public bool Claim()
        {
            return Exchange("GET /kennel/claim HTTP/1.1\r\nHost: kennel\r\n\r\n", null, 0) && Status == 200;
        }

        public void Respond(string requestId, byte[] body, int length)
        {
            Post("invocation/" + requestId + "/response", "application/json", null, body, length);
        }

        public void Fail(string path, string type, string json)
        {
            byte[] body = Encoding.UTF8.GetBytes(json);
            Post(path, "application/vnd.aws.lambda.error+json", type, body, body.Length);
        }

        void Post(string path, string contentType, string errorType, byte[] body, int length)
        {
            string type = errorType == null ? "" : "Lambda-Runtime-Function-Error-Type: " + errorType + "\r\n";
            Exchange("POST" + Root + path + " HTTP/1.1\r\nHost: kennel\r\nContent-Type: " + contentType + "\r\n" + type
                     + "Content-Length: " + length.ToString() + "\r\n\r\n", body, length);
        }

        /// <summary>The value of a header of the last answer, or null.</summary>
        public string Header(string name)
        {
            for (int i = 0; i + name.Length + 1 < _bodyStart; i++)
            {
                if (_in[i] != '\n' || _in[i + 1 + name.Length] != ':') continue;
                int j = 0;
                while (j < name.Length && (_in[i + 1 + j] | 0x20) == (name[j] | 0x20)) j++;
                if (j < name.Length) continue;
                int from = i + 2 + name.Length, to = Array.IndexOf(_in, (byte)'\r', from);
                while (from < to && _in[from] == ' ') from++;
                return Encoding.UTF8.GetString(_in, from, to - from);
            }
            return null;
        }

        // A kept-alive connection may have been closed meanwhile: one more try on a new one, as long as nothing of an answer came.
        bool Exchange(string head, byte[] body, int length)
        {
            byte[] request = new byte[head.Length + (length <= 65536 ? length : 0)];
            Encoding.UTF8.GetBytes(head, 0, head.Length, request, 0);
            bool whole = request.Length == head.Length + length;
            if (whole && length > 0) Buffer.BlockCopy(body, 0, request, head.Length, length);
            for (int tries = _fd < 0 ? 1 : 0; tries < 2; tries++)
            {
                if (_fd < 0 && !Connect()) break;
                // A server that refuses a large body may answer before it has read it all: so read even if the write fails.
                bool sent = Libc.Write(_fd, request, 0, request.Length) && (whole || Libc.Write(_fd, body, 0, length));
                if (Receive()) return true;
                Libc.Close(_fd);
                _fd = -1;
                if (_length > 0 && sent) break;
            }
            Status = 0;
            return false;
        }

        bool Connect()
        {
            byte[] address;
            if (!string.IsNullOrEmpty(_unix))
            {
                address = new byte[3 + Encoding.UTF8.GetByteCount(_unix)];
                address[0] = Libc.AF_UNIX;
                Encoding.UTF8.GetBytes(_unix, 0, _unix.Length, address, 2);
            }
            else
            {
                if (_tcp == null) return false;
                int colon = _tcp.LastIndexOf(':'), port = int.Parse(_tcp.Substring(colon + 1));
                string host = _tcp.Substring(0, colon);
                address = new byte[16];
                address[0] = Libc.AF_INET;
                address[2] = (byte)(port >> 8);
                address[3] = (byte)port;
                string[] parts = (host == "localhost" ? "127.0.0.1" : host).Split('.');
                for (int i = 0; i < 4; i++) address[4 + i] = byte.Parse(parts[i]);
            }
            return (_fd = Libc.Connect(address)) >= 0;
        }

        bool Receive()
        {
            _length = 0;
            _bodyStart = 0;
            int scanned = 0;
            while (_bodyStart == 0)
            {
                if (!Fill(1)) return false;
                for (; scanned + 3 < _length; scanned++)
                {
                    if (_in[scanned] == '\r' && _in[scanned + 1] == '\n' && _in[scanned + 2] == '\r' && _in[scanned + 3] == '\n')
                    {
                        _bodyStart = scanned + 4;
                        break;
                    }
                }
            }
            Status = (_in[9] - '0') * 100 + (_in[10] - '0') * 10 + (_in[11] - '0');
            string length = Header("Content-Length");
            if (length != null)
            {
                int missing = _bodyStart + int.Parse(length) - _length;
                if (missing > 0 && !Fill(missing)) return false;
                Body = new ArraySegment<byte>(_in, _bodyStart, int.Parse(length));
            }
            else if (!ReceiveChunks()) return false;
            string connection = Header("Connection");
            if (connection != null && string.Equals(connection, "close", StringComparison.OrdinalIgnoreCase))
            {
                Libc.Close(_fd);
                _fd = -1;
            }
            return true;
        }

        bool ReceiveChunks()
        {
            if (Header("Transfer-Encoding") == null)
            {
                Body = new ArraySegment<byte>(_in, _bodyStart, 0);
                return true;
            }
            MemoryStream all = new MemoryStream();
            int at = _bodyStart;
            while (true)
            {
                int end;
                while ((end = Array.IndexOf(_in, (byte)'\n', at, _length - at)) < 0)
                    if (!Fill(1)) return false;
                string size = Encoding.ASCII.GetString(_in, at, end - at).Split(';')[0].Trim();
                at = end + 1;
                int n = Convert.ToInt32(size, 16);
                int missing = at + n + 2 - _length;
                if (missing > 0 && !Fill(missing)) return false;
                if (n == 0) break;
                all.Write(_in, at, n);
                at += n + 2;
            }
            Body = new ArraySegment<byte>(all.ToArray());
            return true;
        }

        // Reads until at least `wanted` more bytes are there.
        bool Fill(int wanted)
        {
            if (_length + wanted > _in.Length) Array.Resize(ref _in, Math.Max(_in.Length * 2, _length + wanted));
            while (wanted > 0)
            {
                int n = Libc.Read(_fd, _in, _length, _in.Length - _length);
                if (n <= 0) return false;
                _length += n;
                wanted -= n;
            }
            return true;
        }
    }
}
