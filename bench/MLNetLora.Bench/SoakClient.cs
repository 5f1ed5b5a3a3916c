using System.Diagnostics;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;

namespace MLNetLora.Bench;

/// <summary>A response that was read to its end.</summary>
/// <param name="Status">Its status.</param>
/// <param name="Body">What came.</param>
/// <param name="First">Seconds to the first bytes of the body.</param>
/// <param name="Seconds">Seconds to its end.</param>
internal sealed record SoakReply(int Status, string Body, double First, double Seconds);

/// <summary>Asks services in turn, and asks again elsewhere what was refused, as a balancer does.</summary>
internal sealed class SoakClient(SoakBalancer balancer, string? key, SoakTally tally) : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(2);
    private readonly HttpClient _quick = Make(null);
    private readonly HttpClient _slow = Make(4096);

    /// <summary>What is sent as the API key.</summary>
    public string? Key => key;

    /// <summary>Whether the services are told to end, so that what is refused is not asked again.</summary>
    public bool IsEnding { get; set; }

    /// <summary>Asks until there is an answer that is no 429 or 503.</summary>
    /// <param name="path">Behind /v1/.</param>
    /// <param name="body">JSON.</param>
    /// <param name="isSlow">Whether the answer is read in small pieces with pauses.</param>
    /// <returns>Null where it was lost, which is counted as a fault, or where everything ends.</returns>
    public async Task<SoakReply?> AskAsync(string path, string body, bool isSlow = false)
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (watch.Elapsed < s_patience)
        {
            SoakReplica replica = balancer.Next();
            long sent = Stopwatch.GetTimestamp();
            TimeSpan pause = TimeSpan.FromMilliseconds(50);
            try
            {
                using HttpRequestMessage request = Request(replica, path, new StringContent(body, Encoding.UTF8, "application/json"));
                using HttpResponseMessage response = await (isSlow ? _slow : _quick).SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
                SoakReply reply = await ReadAsync(response, Stopwatch.GetElapsedTime(sent), sent, isSlow);
                if (reply.Status is not (429 or 503))
                {
                    return reply;
                }

                pause = Refused(response, reply, body);
            }
            catch (Exception error) when (error is HttpRequestException or IOException or OperationCanceledException)
            {
                if (!WasRefused(error) && !replica.WasTold(sent))
                {
                    tally.Fault("cut",
                        $"after {watch.Elapsed.TotalSeconds:F2} s, {replica.Address}{path}: {error.Message} {error.InnerException?.Message}\n{body}");
                    return null;
                }

                tally.Count(WasRefused(error) ? "asked again: connection refused" : "asked again: connection closed after SIGTERM");
            }

            if (IsEnding)
            {
                tally.Count("at the end: refused");
                await Task.Delay(pause);
                return null;
            }

            await Task.Delay(pause);
        }

        tally.Fault("lost", $"refused for {s_patience.TotalSeconds} s: {path} {body}");
        return null;
    }

    /// <summary>Asks one service once.</summary>
    public async Task<SoakReply> OnceAsync(SoakReplica replica, string path, HttpContent content, string? otherKey = null, bool isChunked = false)
    {
        long sent = Stopwatch.GetTimestamp();
        using HttpRequestMessage request = Request(replica, path, content, otherKey);
        request.Headers.TransferEncodingChunked = isChunked ? true : null;
        using HttpResponseMessage response = await _quick.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        return await ReadAsync(response, Stopwatch.GetElapsedTime(sent), sent, false);
    }

    /// <summary>Begins to read an answer, and goes.</summary>
    /// <param name="replica">Who is asked.</param>
    /// <param name="path">Behind /v1/.</param>
    /// <param name="body">JSON.</param>
    /// <param name="bytes">How much is read; 0 for nothing.</param>
    /// <param name="cancellation">Goes before.</param>
    public async Task<int> LeaveAsync(SoakReplica replica, string path, string body, int bytes, CancellationToken cancellation)
    {
        using HttpRequestMessage request = Request(replica, path, new StringContent(body, Encoding.UTF8, "application/json"));
        using HttpResponseMessage response = await _quick.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellation);
        Stream stream = await response.Content.ReadAsStreamAsync(cancellation);
        await stream.ReadAtLeastAsync(new byte[Math.Max(1, bytes)], bytes, throwOnEndOfStream: false, cancellation);
        return (int)response.StatusCode;
    }

    /// <summary>Whether nobody was there who could have begun to answer.</summary>
    public static bool WasRefused(Exception error) => error is HttpRequestException
    { HttpRequestError: HttpRequestError.ConnectionError, InnerException: SocketException { SocketErrorCode: SocketError.ConnectionRefused } };

    public void Dispose()
    {
        _quick.Dispose();
        _slow.Dispose();
    }

    private HttpRequestMessage Request(SoakReplica replica, string path, HttpContent content, string? otherKey = null)
    {
        HttpRequestMessage request = new(HttpMethod.Post, new Uri(replica.Address, "/v1/" + path)) { Content = content };
        request.Headers.TryAddWithoutValidation("Authorization", $"Bearer {otherKey ?? key}");
        return request;
    }

    private TimeSpan Refused(HttpResponseMessage response, SoakReply reply, string body)
    {
        string? code = null;
        try
        {
            using JsonDocument document = JsonDocument.Parse(reply.Body);
            code = document.RootElement.GetProperty("error").GetProperty("code").GetString();
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            tally.Fault("error without a code", $"{reply.Status} {reply.Body}\n{body}");
        }

        tally.Count($"asked again: {reply.Status} {code}");
        if (code == "shutdown")
        {
            tally.Fault("taken and not answered", $"{reply.Body}\n{body}");
        }

        TimeSpan? after = response.Headers.RetryAfter?.Delta;
        if (after is null)
        {
            tally.Fault("no Retry-After", $"{reply.Status} {reply.Body}");
        }

        // What a client waits, and not so long that the load would vanish.
        return after < TimeSpan.FromMilliseconds(500) ? after.Value : TimeSpan.FromMilliseconds(Random.Shared.Next(100, 500));
    }

    private static async Task<SoakReply> ReadAsync(HttpResponseMessage response, TimeSpan headers, long sent, bool isSlow)
    {
        Stream stream = await response.Content.ReadAsStreamAsync();
        using MemoryStream body = new();
        byte[] buffer = new byte[isSlow ? 2048 : 65536];
        double first = headers.TotalSeconds;
        for (int read; (read = await stream.ReadAsync(buffer)) > 0;)
        {
            first = body.Length == 0 ? Stopwatch.GetElapsedTime(sent).TotalSeconds : first;
            body.Write(buffer, 0, read);
            if (isSlow)
            {
                await Task.Delay(30);
            }
        }

        return new SoakReply((int)response.StatusCode, Encoding.UTF8.GetString(body.ToArray()), first, Stopwatch.GetElapsedTime(sent).TotalSeconds);
    }

    /// <summary>A client; where a size is given, no more than that waits in the socket, so that the service waits for who reads slowly.</summary>
    private static HttpClient Make(int? receiveBuffer)
    {
        SocketsHttpHandler handler = new() { MaxConnectionsPerServer = 1024 };
        if (receiveBuffer is { } size)
        {
            handler.ConnectCallback = async (context, cancellation) =>
            {
                Socket socket = new(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true, ReceiveBufferSize = size };
                try
                {
                    await socket.ConnectAsync(context.DnsEndPoint, cancellation);
                    return new NetworkStream(socket, ownsSocket: true);
                }
                catch
                {
                    socket.Dispose();
                    throw;
                }
            };
        }

        return new HttpClient(handler) { Timeout = s_patience };
    }
}
