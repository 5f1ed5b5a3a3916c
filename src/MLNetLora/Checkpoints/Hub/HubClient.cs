using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Net.Http.Headers;
using System.Runtime.InteropServices;
using System.Security.Authentication;
using System.Text.Json;

namespace MLNetLora.Checkpoints;

/// <summary>
/// Asks a hub. Redirects are followed here and not by the runtime, so that the token goes to the hub alone; proxies are those of the environment, which
/// the runtime reads.
/// </summary>
internal sealed class HubClient : IDisposable
{
    private const int MostRedirects = 10;
    private const int MostJsonBytes = 64 << 20; // a repository with 100,000 files has about 30 MB
    private static readonly TimeSpan s_firstPause = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan s_longestPause = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan s_longestWait = TimeSpan.FromMinutes(5);
    private static readonly string s_userAgent = string.Create(System.Globalization.CultureInfo.InvariantCulture,
        $"MLNetLora/{typeof(HubClient).Assembly.GetName().Version?.ToString(3)} ({RuntimeInformation.FrameworkDescription}; {RuntimeInformation.RuntimeIdentifier})");

    private readonly HttpClient _http;
    private readonly HubSite _site;
    private readonly HubId _id;
    private readonly string? _token;
    private readonly HubDownloadOptions _options;
    private readonly HubMeter _meter;

    public HubClient(HubSite site, HubId id, string? token, HubDownloadOptions options, HubMeter meter)
    {
        (_site, _id, _token, _options, _meter) = (site, id, token, options, meter);
        SocketsHttpHandler handler = new()
        {
            AllowAutoRedirect = false,
            AutomaticDecompression = DecompressionMethods.None,
            UseCookies = false,
            ConnectTimeout = options.Timeout,
            MaxConnectionsPerServer = options.Connections,
            PooledConnectionLifetime = TimeSpan.FromMinutes(10), // a name may lead elsewhere by then
        };
        _http = new HttpClient(handler) { Timeout = Timeout.InfiniteTimeSpan };
    }

    public void Dispose() => _http.Dispose();

    /// <summary>The files of the model.</summary>
    public Task<HubListing> ListAsync(CancellationToken cancellation) => RetryAsync(async () =>
    {
        using HubAnswer answer = await SendAsync(HttpMethod.Get, _site.ListAddress(_id), file: null, range: null, cancellation).ConfigureAwait(false);
        byte[] json = await answer.ReadAllAsync(MostJsonBytes, cancellation).ConfigureAwait(false)
            ?? throw new HubException($"{_site.Name} lists more than {MostJsonBytes} bytes of files of {_id}; no model has so many.");
        try
        {
            using JsonDocument document = JsonDocument.Parse(json);
            return _site.ReadList(document.RootElement, _id);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new HubException($"{answer.Address.Host} answers with something else than the list of files of {_id} ({e.Message}); is {_site.Endpoint} the right "
                + "address, and does a proxy want you to sign in?", e);
        }
    }, cancellation);

    /// <summary>Length and hash of a file whose listing does not tell them.</summary>
    public Task<HubFile> DescribeAsync(HubFile file, string revision, CancellationToken cancellation) => RetryAsync(async () =>
    {
        Uri address = _site.FileAddress(_id, revision, file.Path);
        using HubAnswer answer = await SendAsync(HttpMethod.Head, address, file.Path, range: null, cancellation, toOtherHosts: false).ConfigureAwait(false);
        string? blob = HubFile.Unquoted(answer.Header("X-Linked-Etag") ?? answer.Header("ETag"));
        bool isFile = answer.Status == HttpStatusCode.OK;
        long size = long.TryParse(answer.Header("X-Linked-Size"), out long linked) ? linked : isFile ? answer.Length ?? -1 : -1;
        return blob is not null && HubFile.IsBlob(blob) && size >= 0
            ? file with { Blob = blob, Size = size, Sha256 = HubFile.IsHex(blob, 64) ? blob : null }
            : throw new HubException($"{_site.Endpoint} tells neither in its list nor in the headers (ETag, X-Linked-Size) how long {file.Path} of {_id} is and what it "
                + $"is named by (ETag '{HubErrors.Shown(blob)}').");
    }, cancellation);

    /// <summary>Where a file is.</summary>
    public Uri Address(HubFile file, string revision) => _site.FileAddress(_id, revision, file.Path);

    /// <summary>Does something until it succeeds, as often as the options say.</summary>
    /// <param name="attempt">What is done; a <see cref="PassingException"/> asks for the next time.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <param name="progress">Counts what has come; where it has grown, the attempts begin anew.</param>
    public async Task<T> RetryAsync<T>(Func<Task<T>> attempt, CancellationToken cancellation, Func<long>? progress = null)
    {
        long before = progress?.Invoke() ?? 0;
        for (int failures = 0; ;)
        {
            try
            {
                return await attempt().ConfigureAwait(false);
            }
            catch (PassingException e)
            {
                long now = progress?.Invoke() ?? 0;
                failures = now > before ? 1 : failures + 1;
                before = now;
                await PauseAsync(e, failures, cancellation).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Sends a request and follows its redirects.</summary>
    /// <param name="method">GET or HEAD.</param>
    /// <param name="address">The address.</param>
    /// <param name="file">The file that is asked for, for messages; null for the list.</param>
    /// <param name="range">The bytes that are asked for; null for all.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <param name="toOtherHosts">Whether redirects are followed that lead away from the hub; the answer is else the redirect.</param>
    /// <returns>The answer, whose body is still to come: a success, or a redirect that is not followed.</returns>
    /// <exception cref="PassingException">It failed, and may succeed later.</exception>
    /// <exception cref="HubException">It failed.</exception>
    public async Task<HubAnswer> SendAsync(
        HttpMethod method, Uri address, string? file, RangeHeaderValue? range, CancellationToken cancellation, bool toOtherHosts = true)
    {
        for (int redirects = 0; redirects <= MostRedirects; redirects++)
        {
            HubAnswer answer = await SendOnceAsync(method, address, range, cancellation).ConfigureAwait(false);
            try
            {
                if (answer.Redirect is { } target)
                {
                    Uri next = Follow(address, target);
                    if (toOtherHosts || IsHub(next))
                    {
                        address = next;
                        answer.Dispose();
                        continue;
                    }
                }
                else if (!answer.IsSuccess)
                {
                    throw HubErrors.Of(answer.Message, _site, _id, file, hasToken: _token is not null, isHub: IsHub(address), DateTimeOffset.UtcNow);
                }

                answer.Address = address;
                return answer;
            }
            catch
            {
                answer.Dispose();
                throw;
            }
        }

        throw new HubException($"{_site.Endpoint} redirects more than {MostRedirects} times when asked for {file ?? "the files"} of {_id}; the last address was "
            + $"{address.GetLeftPart(UriPartial.Path)}.");
    }

    /// <summary>Whether an address is the hub's own, which may see the token.</summary>
    public bool IsHub(Uri address) => address.Scheme == _site.Endpoint.Scheme && address.Port == _site.Endpoint.Port
        && string.Equals(address.IdnHost, _site.Endpoint.IdnHost, StringComparison.OrdinalIgnoreCase);

    [SuppressMessage("Reliability", "CA2000:Dispose objects before losing scope", Justification = "The answer owns them.")]
    private async Task<HubAnswer> SendOnceAsync(HttpMethod method, Uri address, RangeHeaderValue? range, CancellationToken cancellation)
    {
        using HttpRequestMessage request = new(method, address);
        request.Headers.TryAddWithoutValidation("User-Agent", s_userAgent);
        request.Headers.Add("Accept-Encoding", "identity"); // lengths and hashes are those of the file
        request.Headers.Range = range;
        if (_token is not null && IsHub(address))
        {
            _site.Authorize(request, _token);
        }

        HubDeadline deadline = new(_options.Timeout, address.Host, cancellation);
        try
        {
            HttpResponseMessage response = await deadline.RunAsync(
                token => new ValueTask<HttpResponseMessage>(_http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, token))).ConfigureAwait(false);
            return new HubAnswer(response, deadline) { Address = address };
        }
        catch
        {
            deadline.Dispose();
            throw;
        }
    }

    private static Uri Follow(Uri from, string target)
    {
        if (!Uri.TryCreate(from, target, out Uri? next) || next.Scheme is not ("http" or "https"))
        {
            throw new HubException($"{from.Host} redirects to '{HubErrors.Shown(target)}', which is no address of the web.");
        }

        return from.Scheme == "https" && next.Scheme == "http"
            ? throw new HubException($"{from.Host} redirects from https to {next.Scheme}://{next.Host}, where anybody could change the file; that is not followed.")
            : next;
    }

    private async Task PauseAsync(PassingException e, int failures, CancellationToken cancellation)
    {
        if (failures > _options.Retries)
        {
            throw new HubException(failures == 1 ? e.Message : $"{e.Message} That was the {failures}th attempt. What has arrived is kept, and the next download goes on there.", e)
            {
                StatusCode = e.Status,
            };
        }

        if (e.After > s_longestWait)
        {
            throw new HubException(
                FormattableString.Invariant($"{e.Message} The server asks to wait {e.After.Value.TotalMinutes:F0} minutes; start the download again then, it goes on there."), e)
            {
                StatusCode = e.Status,
            };
        }

        TimeSpan doubled = s_firstPause * Math.Pow(2, Math.Min(failures - 1, 10));
        TimeSpan pause = e.After ?? (doubled < s_longestPause ? doubled : s_longestPause);
        _meter.Tell(FormattableString.Invariant($"{e.Message} Attempt {failures + 1} of {_options.Retries + 1} in {pause.TotalSeconds:F0} s."));
        await _options.Environment.Delay(pause, cancellation).ConfigureAwait(false);
    }
}

/// <summary>How long a server may say nothing: each wait is bounded, and one that is over fails so that it is tried again.</summary>
internal sealed class HubDeadline(TimeSpan timeout, string host, CancellationToken caller) : IDisposable
{
    private readonly CancellationTokenSource _source = CancellationTokenSource.CreateLinkedTokenSource(caller);

    /// <summary>Waits for something of the network.</summary>
    /// <exception cref="PassingException">The network failed, or said nothing for too long.</exception>
    /// <exception cref="HubException">It cannot succeed later.</exception>
    public async Task<T> RunAsync<T>(Func<CancellationToken, ValueTask<T>> work)
    {
        _source.CancelAfter(timeout);
        try
        {
            return await work(_source.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!caller.IsCancellationRequested)
        {
            throw new PassingException(FormattableString.Invariant($"{host} has said nothing for {timeout.TotalSeconds:G3} s."));
        }
        catch (HttpRequestException e) when (e.InnerException is AuthenticationException inner)
        {
            throw new HubException($"The certificate of {host} is not trusted: {inner.Message} If a proxy of your network stands in between, this machine must know its "
                + "certificate.", e);
        }
        catch (HttpRequestException e) when (e.HttpRequestError == HttpRequestError.NameResolutionError)
        {
            throw new PassingException($"The name {host} is not known here: there is no network, or it needs a proxy (HTTPS_PROXY) or a mirror (HF_ENDPOINT).", e);
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            throw new PassingException($"The connection to {host} failed: {(e.InnerException ?? e).Message.TrimEnd('.')}.", e);
        }
        finally
        {
            if (!caller.IsCancellationRequested)
            {
                _source.CancelAfter(Timeout.InfiniteTimeSpan);
            }
        }
    }

    public void Dispose() => _source.Dispose();
}
